//! The faults that the simulation must find. What is to be changed must stand in its file once.

/// A fault.
pub struct Mutant {
    pub name: &'static str,
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "acknowledges before it writes",
        file: "src/journal/writer.rs",
        from: "        if !self.buffer.is_empty() {",
        to: "        if self.buffer.len() > 1500 {",
    },
    Mutant {
        name: "acknowledges before it syncs",
        file: "src/journal/writer.rs",
        from: "writer.is_some_and(|writer| writer.durable.load(Ordering::Acquire) >= position.offset)",
        to: "writer.is_some_and(|writer| writer.written.load(Ordering::Acquire) >= position.offset)",
    },
    Mutant {
        name: "skips the check of a frame",
        file: "src/journal/frame.rs",
        from: "    if check(epoch, frame) != expected {",
        to: "    if expected == 0 {",
    },
    Mutant {
        name: "ignores the sequence",
        file: "src/journal/scan.rs",
        from: "            if last.is_some_and(|last| frame.sequence != last.wrapping_add(1)) {",
        to: "            if last.is_some_and(|last| frame.sequence == u64::MAX && last == 0) {",
    },
    Mutant {
        name: "forgets nonces",
        file: "src/recovery/found.rs",
        from: "            restorer.nonce(used)?;",
        to: "            let _ = used;",
    },
    Mutant {
        name: "forgets holds",
        file: "src/admission/shared.rs",
        from: "            ImagePhase::Held => return true,",
        to: "            ImagePhase::Held => return false,",
    },
    Mutant {
        name: "loses the position",
        file: "src/store/memory.rs",
        from: "        meta.reached.extend(reached);",
        to: "        let _ = reached;",
    },
    Mutant {
        name: "gives back before the record is safe",
        file: "src/admission/record.rs",
        from: "        gate.defer(position, after.into_iter());",
        to: "        after.iter().for_each(|after| after.act(&self.table, &self.orders, self.lane));",
    },
    Mutant {
        name: "folds equal windows by overwriting",
        file: "src/store/rows.rs",
        from: "                *used = used.saturating_add(later_used);",
        to: "                *used = later_used;",
    },
    Mutant {
        name: "drops the newer window",
        file: "src/store/rows.rs",
        from: "            if later_window > window {",
        to: "            if later_window > window && *window == 0 {",
    },
    Mutant {
        name: "takes an older image for the newest",
        file: "src/store/fold.rs",
        from: "        if known.is_some_and(|known| known >= image.revision) {",
        to: "        if known.is_some_and(|known| known == image.revision) {",
    },
    Mutant {
        name: "forgets that a later image came first",
        file: "src/store/fold.rs",
        from: "                    self.ahead.insert(image.decision.0, true);",
        to: "                    let _ = &self.ahead;",
    },
    Mutant {
        name: "takes the clock at its word",
        file: "src/admission/record.rs",
        from: "        now.0 >= highest_ms.saturating_sub(self.step_back_ms_max)",
        to: "        now.0 >= i64::MIN.max(highest_ms.saturating_sub(i64::MAX))",
    },
    Mutant {
        name: "lets more be exposed than it may",
        file: "src/front/safety.rs",
        from: "        exposure.fen > self.exposure.fen || age_ms > i64::from(self.exposure.age_ms)",
        to: "        exposure.fen / 8 > self.exposure.fen || age_ms > i64::from(self.exposure.age_ms)",
    },
    Mutant {
        name: "numbers records anew after a start",
        file: "src/journal/files.rs",
        from: "            let sequence = past.get(&writer).map_or(0, |past| past.last_sequence);",
        to: "            let sequence = past.get(&writer).map_or(0, |past| past.last_sequence / 2);",
    },
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_to_be_changed_stands_in_its_file_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for Mutant { name, file, from, to } in MUTANTS {
            let text = fs::read_to_string(root.join(file)).expect("a file");
            assert_eq!(text.matches(from).count(), 1, "{name}: {file}");
            assert_ne!(from, to, "{name}: it is no change");
        }
    }
}
