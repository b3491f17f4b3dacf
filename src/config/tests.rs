use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rand::SeedableRng;
use tempfile::TempDir;

use super::init::{CONFIG_NAME, contents, write_all};
use super::issue::Issuer;
use super::*;
use crate::certificate::{self, Authority};
use crate::front::Mode;
use crate::merchant::ExpiryRule;
use crate::request::Trust;
use crate::signature::SignType;
use crate::types::{KeyId, MerchantId};

const NOW: UnixMillis = UnixMillis::from_seconds(1_795_000_000);

fn random() -> rand::rngs::StdRng {
    rand::rngs::StdRng::seed_from_u64(7)
}

/// Makes a new configuration; its keys are made once for all tests.
fn sample() -> TempDir {
    static CONTENTS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    let dir = tempfile::tempdir().expect("folder");
    let contents = CONTENTS.get_or_init(|| contents(&mut random(), NOW).expect("contents"));
    write_all(dir.path(), contents).expect("files");
    dir
}

fn config_of(dir: &TempDir) -> PathBuf {
    dir.path().join(CONFIG_NAME)
}

fn text_of(dir: &TempDir) -> String {
    std::fs::read_to_string(config_of(dir)).expect("text")
}

fn load_text(dir: &TempDir, text: &str) -> Result<Config, ConfigError> {
    let path = dir.path().join("changed.toml");
    std::fs::write(&path, text).expect("written");
    load(&path, NOW)
}

fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode");
}

#[test]
fn a_new_configuration_loads_as_it_is() {
    let parent = tempfile::tempdir().expect("folder");
    let dir = parent.path().join("new/gate");
    let written = init(&dir, &mut random(), NOW).expect("made");
    for path in &written {
        let mode = std::fs::metadata(path).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let config = load(&dir.join(CONFIG_NAME), NOW).expect("loads");
    assert!(config.workers > 0 && config.upstream.is_some());
    assert_eq!(config.control, Some(Address::Tcp("127.0.0.1:9090".parse().expect("address"))));
    let [public, check] = config.listeners.as_slice() else { panic!("two listeners") };
    assert!(public.mode == Mode::Proxy && public.trust == Trust::Public && public.tls.is_some());
    assert!(check.mode == Mode::Check && check.trust == Trust::TrustedHop && check.tls.is_none());
    let merchant: MerchantId = SAMPLE_MCHID.parse().expect("mchid");
    let merchant = config.policy.merchant(&merchant).expect("merchant");
    assert!(merchant.apiv3_key.is_some() && merchant.keys().iter().all(|key| key.in_force(NOW).is_ok()));
    assert_eq!(config.policy.limits_on(merchant).count(), 1);
}

#[test]
fn init_writes_into_no_folder_that_holds_anything() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("mine");
    std::fs::write(&file, "mine").expect("written");
    for place in [dir.path(), &file] {
        let error = init(place, &mut random(), NOW).expect_err("refused");
        assert!(matches!(*error.problem, Problem::Exists), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 1);
    assert_eq!(std::fs::read_to_string(&file).expect("kept"), "mine");
}

#[test]
fn the_template_shows_the_defaults() {
    let dir = sample();
    let written = load(&config_of(&dir), NOW).expect("loads");
    let shown: String = text_of(&dir)
        .lines()
        .map(|line| line.strip_prefix('#').map_or_else(|| line.to_owned(), unhidden) + "\n")
        .collect();
    assert!(shown.lines().filter(|line| line.contains("_max = ")).count() > 15, "defaults are shown");
    let shown = load_text(&dir, &shown).expect("loads");
    let numbers = |config: &Config| {
        let Config {
            workers, upstream, bounds, signing_threads, signing_queue_max, nonces, orders, holds, quota, ..
        } = config;
        format!(
            "{workers} {upstream:?} {bounds:?} {signing_threads} {signing_queue_max} {nonces:?} {orders:?} {holds:?} {quota:?} {:?}",
            config.policy.calendars()
        )
    };
    assert_eq!(numbers(&written), numbers(&shown));
}

#[test]
fn every_preset_loads_and_its_limits_bear_its_name() {
    let dir = sample();
    let ids = |presets: &str| -> Vec<String> {
        let text = text_of(&dir).replace("#presets = []", &format!("presets = [{presets}]"));
        let config = load_text(&dir, &text).expect("loads");
        (0..).map_while(|index| config.policy.limit(index)).map(|limit| limit.id.to_string()).collect()
    };
    assert_eq!(ids("").len(), 2);
    for (preset, limits) in [("t10_micro_merchants", 1), ("t8_categories", 12), ("pboc_43", 5), ("bar_code_grades", 3)]
    {
        let ids = ids(&format!("\"{preset}\""));
        assert_eq!(ids.len(), 2 + limits, "{preset}");
        assert!(ids[2..].iter().all(|id| id.starts_with(&format!("{preset}."))), "{ids:?}");
    }
    let all = "\"t10_micro_merchants\", \"t8_categories\", \"pboc_43\", \"bar_code_grades\"";
    assert_eq!(ids(all).len(), 2 + 21, "all together are few enough for one merchant");
}

#[test]
fn holds_and_refunds_are_as_the_file_says() {
    let dir = sample();
    let text = text_of(&dir)
        .replace("#presets = []", "presets = [\"t10_micro_merchants\"]")
        .replace("#hold_s = 604800", "hold_s = 60")
        .replace("#on_expiry = \"release\"", "on_expiry = \"keep\"")
        .replace("#keep_s = 86400", "keep_s = 61");
    let config = load_text(&dir, &text).expect("loads");
    let rules = (config.holds.hold_s, config.holds.on_expiry, config.orders.keep_s);
    assert_eq!(rules, (60, ExpiryRule::Keep, 61));
    let returns = |id| config.policy.limit_by_id(id).map(|limit| limit.coverage().returns());
    let ids = ["customer-category", "micro-credit-card", "t10_micro_merchants.credit_card"];
    assert_eq!(ids.map(returns), [Some(true), Some(false), Some(false)]);
}

#[test]
fn an_api_v2_key_is_read_with_its_rule_for_md5_and_never_printed() {
    let dir = sample();
    let secret = "192006250b4c09247ec02edce69f6a2d";
    write_secret(&dir.path().join("merchants/1900000001/apiv2.key"), &format!("{secret}\n"));
    let load = |md5: &str| {
        let entry = format!(
            "[[merchant.key]]\napiv2_key_file = \"merchants/1900000001/apiv2.key\"\n{md5}\nstatus = \"active\""
        );
        let text = text_of(&dir).replacen("[[merchant.key]]", &format!("{entry}\n\n[[merchant.key]]"), 1);
        load_text(&dir, &text).expect("loads")
    };
    for (md5, pays_in, pays_out) in [
        ("", true, false),
        ("md5 = \"no_payouts\"", true, false),
        ("md5 = \"forbid\"", false, false),
        ("md5 = \"allow\"", true, true),
    ] {
        let config = load(md5);
        let merchant = config.policy.merchant(&"1900000001".parse().expect("mchid")).expect("the merchant");
        let key = merchant.key(&KeyId::API_V2).expect("the key");
        let permits = [false, true].map(|pays_out| key.key.permits(Some(SignType::Md5), pays_out));
        assert_eq!(permits, [pays_in, pays_out], "{md5}");
        assert!(key.key.is_secret() && !key.is_certificate() && merchant.keys().len() == 2);
        let shown = format!("{config:?} {merchant:?}");
        assert!(!shown.contains(secret) && !shown.contains(&format!("{:?}", secret.as_bytes())));
    }
}

/// A line `#key = value` shows a default; `# text` is a remark.
fn unhidden(line: &str) -> String {
    if line.starts_with(|first: char| first.is_ascii_lowercase()) { line.to_owned() } else { format!("#{line}") }
}

#[test]
fn issued_certificates_have_the_platforms_forms() {
    let mut random = random();
    let issuer = Issuer::new(&mut random, NOW).expect("issuer");
    let id: MerchantId = "1900000109".parse().expect("mchid");
    let merchant = issuer.issue_merchant(&mut random, id).expect("issued");
    assert_eq!(merchant.serial.as_str().len(), 40);
    let authority = Authority::from_pem(&issuer.certificate_pem()).expect("authority");
    let checked = authority.check(&merchant.certificate_der, NOW).expect("in force");
    assert_eq!((checked.merchant, checked.serial), (id, merchant.serial));
    let platform = issuer.issue_platform(&mut random).expect("issued");
    let seen = certificate::inspect(&platform.certificate_pem).expect("certificate");
    assert_eq!(seen.serial, platform.serial);
    assert!(seen.not_before < NOW && NOW < seen.not_after);
    assert!(issuer.issue_server(&mut random, &["not a name\u{7}é"]).is_err());
    assert!(!format!("{issuer:?} {merchant:?}").contains("PRIVATE"));
}

#[test]
fn secrets_are_not_printed() {
    let dir = sample();
    let config = load(&config_of(&dir), NOW).expect("loads");
    let shown = format!("{config:?}");
    let key = std::fs::read_to_string(dir.path().join("merchants/1900000001/apiv3.key")).expect("key");
    let bytes = format!("{:?}", key.trim_end().as_bytes());
    assert!(!shown.contains(key.trim_end()) && !shown.contains(&bytes));
    write_secret(&dir.path().join("deployment.key"), "0123456789");
    let error = load(&config_of(&dir), NOW).expect_err("too short").to_string();
    assert!(error.contains("64 hexadecimal digits") && !error.contains("0123456789"), "{error}");
}

#[test]
fn a_secret_that_others_may_open_is_refused_with_the_remedy() {
    let dir = sample();
    for (name, key) in [
        ("deployment.key", "gate.key_file"),
        ("tls/private_key.pem", "listener[0].tls_key_file"),
        ("platform/private_key.pem", "platform.key[0].private_key_file"),
        ("merchants/1900000001/apiv3.key", "merchant[0].apiv3_key_file"),
    ] {
        let path = dir.path().join(name);
        for (mode, refused) in [(0o640, true), (0o604, true), (0o400, false), (0o600, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
            let error = load(&config_of(&dir), NOW).err();
            assert_eq!(error.is_some(), refused, "{name} {mode:o}: {error:?}");
            if let Some(error) = error {
                assert_eq!(error.key, key);
                assert!(error.to_string().ends_with(&format!("run `chmod 600 {}`", path.display())), "{error}");
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_taken_whole_is_refused() {
    let dir = sample();
    let missing = load(&dir.path().join("none.toml"), NOW).expect_err("missing");
    assert!(missing.line.is_none() && missing.to_string().contains("cannot read"), "{missing}");
    let long = dir.path().join("long.toml");
    let file = std::fs::File::create(&long).expect("made");
    file.set_len(source::CONFIG_BYTES_MAX + 1).expect("long");
    assert!(matches!(*load(&long, NOW).expect_err("long").problem, Problem::FileTooLong { .. }));
    let pem = dir.path().join("authority/certificate.pem");
    std::fs::File::options().write(true).open(&pem).and_then(|file| file.set_len(65_537)).expect("long");
    let error = load(&config_of(&dir), NOW).expect_err("long");
    assert!(
        error.key == "authority.certificate_file" && matches!(*error.problem, Problem::FileTooLong { .. }),
        "{error}"
    );
}

#[test]
fn instants_may_stand_in_quotes_or_bare() {
    let dir = sample();
    for until in ["\"2026-12-31T00:00:00+08:00\"", "2026-12-31T00:00:00+08:00", "2026-12-30T16:00:00Z"] {
        let text = text_of(&dir).replacen("status = \"active\"", &format!("status = \"retiring\"\nuntil = {until}"), 1);
        let config = load_text(&dir, &text).expect("loads");
        let merchant = config.policy.merchant(&SAMPLE_MCHID.parse().expect("mchid")).expect("merchant");
        let end = 1_798_646_400;
        let in_force = |second| merchant.keys()[0].in_force(UnixMillis::from_seconds(second)).is_ok();
        assert!(in_force(end - 1) && !in_force(end), "{until}");
    }
}

#[test]
fn a_line_removed_is_missed_by_nobody_or_by_its_line() {
    let dir = sample();
    let text = text_of(&dir);
    let lines: Vec<&str> = text.lines().collect();
    for removed in (0..lines.len()).filter(|index| !lines[*index].is_empty() && !lines[*index].starts_with('#')) {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != removed);
        let changed: String = kept.map(|(_, line)| format!("{line}\n")).collect();
        if let Err(error) = load_text(&dir, &changed) {
            let named = error.line.is_some_and(|line| (1..lines.len()).contains(&line));
            assert!(named && error.to_string().contains("; "), "without {}: {error}", lines[removed]);
        }
    }
}

/// One mistake in the sample configuration, and what must be said of it.
struct Mistake {
    /// The text that is replaced, once; empty to add at the end.
    from: &'static str,
    to: &'static str,
    /// Text on the line that must be named.
    on: &'static str,
    key: &'static str,
    /// What is wrong, and the remedy.
    says: &'static [&'static str],
}

const fn mistake(
    from: &'static str,
    to: &'static str,
    on: &'static str,
    key: &'static str,
    says: &'static [&'static str],
) -> Mistake {
    Mistake { from, to, on, key, says }
}

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    // The file and its form.
    mistake("[gate]", "[gate", "[gate", "", &["not TOML"]),
    mistake("key_file = ", "key_file = x", "key_file = x", "", &["not TOML", "quotes"]),
    mistake("[gate]", "[gat]", "[gat]", "gat", &["unknown key; write `gate`"]),
    mistake("[gate]", "[[gate]]", "[[gate]]", "gate[0]", &["write one section: [name], or name = { .. }"]),
    mistake("[[merchant]]", "[merchant]", "[merchant]", "merchant", &["write a list: of sections in double brackets"]),
    mistake("#connect_timeout_ms = 1000", "connect_timeout_s = 1", "connect_timeout_s = 1", "upstream.connect_timeout_s", &["unknown key; write `connect_timeout_ms`"]),
    mistake("#workers = 0", "workers = \"four\"", "\"four\"", "gate.workers", &["string \"four\"", "write a whole number"]),
    mistake("#workers = 0", "workers = -1", "workers = -1", "gate.workers", &["`-1`", "write a whole number"]),
    mistake("#workers = 0", "workers = 5000", "5000", "gate.workers", &["5000 is out of range; write 0 to 1024"]),
    mistake("key_file = \"deployment.key\"", "", "[gate]", "gate.key_file", &["missing; add the key"]),
    mistake("key_file = \"deployment.key\"", "key_file = \"none.key\"", "none.key", "gate.key_file", &["cannot read", "none.key", "write the path of a file"]),
    mistake("key_file = \"deployment.key\"", "key_file = \"authority\"", "\"authority\"", "gate.key_file", &["is not a regular file"]),
    mistake("#time_zone = \"Asia/Shanghai\"", "time_zone = \"Asia/Nowhere\"", "Nowhere", "gate.time_zone", &["`Asia/Nowhere` cannot be used; write the IANA name"]),
    mistake("# routes_file = \"routes.json\"", "routes_file = \"deployment.key\"", "routes_file", "gate.routes_file", &["not of the expected form"]),
    // Listeners and upstream.
    mistake("127.0.0.1:8443", "localhost:8443", "localhost:8443", "listener[0].address", &["`localhost:8443` cannot be used; write an IP address and a port"]),
    mistake("127.0.0.1:8080", "0.0.0.0:8080", "0.0.0.0:8080", "listener[1].address", &["without TLS; write 127.0.0.1", "tls_certificate_file"]),
    mistake("127.0.0.1:9090", "192.0.2.1:9090", "192.0.2.1:9090", "listener[2].address", &["can be reached from elsewhere; write 127.0.0.1"]),
    mistake("127.0.0.1:8080", "127.0.0.1:8443", "address = \"127.0.0.1:8443\"\n\n[[listener]]\nname = \"control\"", "listener[1].address", &["taken already, by listener[0]; write another"]),
    mistake("\"127.0.0.1:9090\"", "\"[::1]:8443\"\n[[listener]]\nname = \"all\"\nkind = \"trusted_hop\"\nmode = \"check\"\naddress = \"0.0.0.0:8443\"", "0.0.0.0:8443", "listener[3].address", &["taken already, by listener[0]"]),
    mistake("127.0.0.1:8080", "127.0.0.1:8081", "address = \"127.0.0.1:8081\"\n\n[[listener]]", "listener[1].address", &["taken already, by upstream"]),
    mistake("127.0.0.1:8080", "unix:", "unix:\"", "listener[1].address", &["write unix: and a path"]),
    mistake("name = \"check\"", "name = \"public\"", "name = \"public\"\nkind = \"trusted_hop\"", "listener[1].name", &["taken already, by listener[0]"]),
    mistake("name = \"check\"", "name = \"two words\"", "two words", "listener[1].name", &["write 1 to 32 letters"]),
    mistake("kind = \"trusted_hop\"", "kind = \"private\"", "\"private\"", "listener[1].kind", &["unknown value `private`; write one of `public`, `trusted_hop`, `control`"]),
    mistake("mode = \"check\"\n", "", "[[listener]]\nname = \"check\"", "listener[1].mode", &["missing; write mode"]),
    mistake("address = \"127.0.0.1:9090\"", "mode = \"check\"\naddress = \"127.0.0.1:9090\"", "mode = \"check\"\naddress = \"127.0.0.1:9090\"", "listener[2].mode", &["does not belong here; remove the key"]),
    mistake("address = \"127.0.0.1:9090\"", "http2 = true\naddress = \"127.0.0.1:9090\"", "http2 = true\naddress", "listener[2].http2", &["does not belong here; remove the key"]),
    mistake("kind = \"trusted_hop\"\nmode = \"check\"", "kind = \"control\"", "kind = \"control\"\naddress = \"127.0.0.1:9090\"", "listener[2].kind", &["keep one control listener"]),
    mistake("tls_key_file = \"tls/private_key.pem\"\n", "", "[[listener]]\nname = \"public\"", "listener[0].tls_key_file", &["missing; add the file of the private key"]),
    mistake("tls/private_key.pem", "platform/private_key.pem", "tls_key_file", "listener[0].tls_key_file", &["write the private key that belongs to `tls_certificate_file`"]),
    mistake("tls/certificate.pem", "deployment.key", "tls_certificate_file", "listener[0].tls_certificate_file", &["does not hold a chain of certificates in PEM"]),
    mistake("#tls_versions = [\"1.3\"]", "tls_versions = [\"1.2\"]", "[\"1.2\"]", "listener[0].tls_versions", &["TLS 1.3 is always spoken"]),
    mistake("#tls_versions = [\"1.3\"]", "tls_versions = [\"1.3\", \"1.1\"]", "\"1.1\"", "listener[0].tls_versions[1]", &["unknown value `1.1`"]),
    mistake("[upstream]\n# \"IP:PORT\" or \"unix:PATH\".\naddress = \"127.0.0.1:8081\"", "", "mode = \"proxy\"\naddress", "listener[0].mode", &["add [upstream]", "mode = \"check\""]),
    mistake("127.0.0.1:8081", "127.0.0.1:0", "127.0.0.1:0", "upstream.address", &["that the service listens on"]),
    mistake("# host = \"api.example.com\"", "host = \"a b\"", "\"a b\"", "upstream.host", &["write a host"]),
    mistake("#idle_connections_max = 64", "idle_connections_max = 600", "idle_connections_max = 600", "upstream.idle_connections_max", &["600 is above `connections_max`; write at most 512, or raise `connections_max`"]),
    // Bounds and tables.
    mistake("#head_bytes_max = 16384", "head_bytes_max = 2000000", "2000000", "bounds.head_bytes_max", &["write 8192 to 1048576"]),
    mistake("#headers_max = 64", "headers_max = 1000", "headers_max = 1000", "bounds.headers_max", &["write 16 to 256"]),
    mistake("#h2_streams_max = 128", "h2_streams_max = 0", "h2_streams_max = 0", "bounds.h2_streams_max", &["write 1 to 1024"]),
    mistake("#h2_resets_max = 128", "h2_resets_max = 65537", "65537", "bounds.h2_resets_max", &["write 1 to 65536"]),
    mistake("#h2_frames_max = 1024", "h2_frames_max = 63", "h2_frames_max = 63", "bounds.h2_frames_max", &["write 64 to 65536"]),
    mistake("#bodies_bytes_max = 67108864", "bodies_bytes_max = 2000000\nbody_bytes_max = 3000000", "3000000", "bounds.body_bytes_max", &["above `bodies_bytes_max`; write at most 2000000"]),
    mistake("#head_timeout_ms = 5000", "head_timeout_ms = 5", "head_timeout_ms = 5\n", "bounds.head_timeout_ms", &["5 is out of range; write 100 to 600000"]),
    mistake("#head_timeout_ms = 5000", "head_timeout_s = 5", "head_timeout_s", "bounds.head_timeout_s", &["unknown key; write `head_timeout_ms`"]),
    mistake("#tolerance_s = 300", "tolerance_s = 301", "301", "replay.tolerance_s", &["301 is out of range; write 1 to 300"]),
    mistake("#nonces_max = 4000000", "nonces_max = 10", "[replay]", "replay.nonces_per_merchant_max", &["1000000 is above `nonces_max`; write at most 10"]),
    mistake("#keep_s = 86400", "keep_s = 59", "keep_s = 59", "orders.keep_s", &["59 is out of range; write 60 to 7776000"]),
    mistake("#keep_s = 86400", "keep_hours = 48", "keep_hours = 48", "orders.keep_hours", &["unknown key; write `keep_s`"]),
    mistake("#hold_s = 604800", "hold_s = 59", "hold_s = 59", "orders.hold_s", &["59 is out of range; write 60 to 2592000"]),
    mistake("#hold_s = 604800", "hold_s = 2592001", "hold_s = 2592001", "orders.hold_s", &["write 60 to 2592000"]),
    mistake("#on_expiry = \"release\"", "on_expiry = \"commit\"", "on_expiry = \"commit\"", "orders.on_expiry", &["unknown value `commit`; write `release` or `keep`"]),
    mistake("#rows_per_merchant_max = 1000000", "rows_per_merchant_max = 5000000", "5000000", "rows.rows_per_merchant_max", &["above `rows_max`"]),
    // The platform's keys.
    mistake("\"platform/private_key.pem\"", "\"authority/private_key.pem\"", "authority/private_key.pem", "platform.key[0].private_key_file", &["does not belong to the certificate; write the file"]),
    mistake("\"platform/certificate.pem\"", "\"deployment.key\"", "certificate_file = \"deployment.key\"", "platform.key[0].certificate_file", &["write the path of a certificate in PEM"]),
    mistake("default_key = \"", "default_key = \"F", "default_key", "platform.default_key", &["write the serial or id of a [[platform.key]]"]),
    mistake("default_key = \"", "default_key = \"?", "default_key", "platform.default_key", &["cannot be used; write a serial"]),
    mistake("# kind = \"public_key\"", "[[platform.key]]\nkind = \"public_key\"\nid = \"AB\"\nprivate_key_file = \"platform/private_key.pem\"\n#", "id = \"AB\"", "platform.key[1].id", &["write PUB_KEY_ID_ and digits"]),
    mistake("#signing_threads = 2", "signing_threads = 0", "signing_threads = 0", "platform.signing_threads", &["write 1 to 64"]),
    mistake("#crl_grace_s = 0", "crl_grace_s = 604801", "crl_grace_s = 604801", "authority.crl_grace_s", &["604801 is out of range; write 0 to 604800"]),
    mistake("#crl_files = []", "crl_files = [\"none.pem\"]", "none.pem", "authority.crl_files[0]", &["cannot read"]),
    mistake("#crl_files = []", "crl_files = [\"authority/certificate.pem\"]", "crl_files = [", "authority.crl_files[0]", &["another PEM block than `X509 CRL`", "write the path of a revocation list"]),
    mistake("mode = \"check\"", "mode = \"check\"\nclient_certificate_header = \"Client-Cert\"\nclient_certificate_form = \"xfcc\"", "\"xfcc\"", "listener[1].client_certificate_form", &["unknown value `xfcc`; write `rfc9440` or `url_encoded_pem`"]),
    // Merchants.
    mistake("mchid = \"1900000001\"", "mchid = \"19 000\"", "19 000", "merchant[0].mchid", &["\"19 000\" cannot be used; write 1 to 32"]),
    mistake("mchid = \"1900000001\"", "mchid = \"1900000002\"", "certificate_file = \"merchants", "merchant[0].key[0].certificate_file", &["issued to merchant 1900000001, not to 1900000002; write the path of a certificate whose subject CN is 1900000002"]),
    mistake("[authority]\n# Roots, and intermediates where there are any, in PEM.\ncertificate_file", "#", "certificate_file = \"merchants", "merchant[0].key[0].certificate_file", &["add [authority]"]),
    mistake("kind = \"ordinary\"", "kind = \"large\"", "\"large\"", "merchant[0].kind", &["unknown value `large`; write `ordinary` or `micro`"]),
    mistake("#sources = []", "sources = [\"192.0.2.0/24\",\n  \"192.0.2.0/33\"]", "192.0.2.0/33", "merchant[0].sources[1]", &["`192.0.2.0/33` cannot be used; write an address, or a network"]),
    mistake("merchants/1900000001/apiv3.key", "authority/private_key.pem", "apiv3_key_file", "merchant[0].apiv3_key_file", &["does not hold an APIv3 key of 32 ASCII characters"]),
    mistake("# platform_key = \"PUB_KEY_ID_0119000000012026112100000000\"", "platform_key = \"PUB_KEY_ID_9\"", "PUB_KEY_ID_9\"", "merchant[0].platform_key", &["`PUB_KEY_ID_9` is not known; write `"]),
    mistake("status = \"active\"", "status = \"retiring\"", "[[merchant.key]]\n# An API", "merchant[0].key[0].until", &["missing; add the instant from which the key no longer counts"]),
    mistake("status = \"active\"", "status = \"active\"\nuntil = 2026-12-31T00:00:00+08:00", "until = 2026", "merchant[0].key[0].until", &["remove the key, or write status = \"retiring\""]),
    mistake("status = \"active\"", "status = \"retiring\"\nuntil = 2026-12-31", "until = 2026-12-31", "merchant[0].key[0].until", &["write an instant with its offset"]),
    mistake("certificate_file = \"merchants/1900000001/apiclient_cert.pem\"", "id = \"PUB_KEY_ID_1\"", "[[merchant.key]]\n", "merchant[0].key[0].public_key_file", &["missing; add the file of the public key"]),
    mistake("certificate_file = \"merchants/1900000001/apiclient_cert.pem\"", "", "[[merchant.key]]\n", "merchant[0].key[0].certificate_file", &["missing; add it, or `id` and `public_key_file`"]),
    mistake("certificate_file = \"merchants/1900000001/apiclient_cert.pem\"", "id = \"PUB_KEY_ID_1\"\npublic_key_file = \"deployment.key\"", "public_key_file = \"deployment.key\"", "merchant[0].key[0].public_key_file", &["PUBLIC KEY", "write the path of a key"]),
    mistake("merchants/1900000001/apiclient_cert.pem", "tls/certificate.pem", "certificate_file = \"tls/certificate.pem\"\nstatus", "merchant[0].key[0].certificate_file", &["write the path of a certificate"]),
    mistake("certificate_file = \"merchants/1900000001/apiclient_cert.pem\"", "apiv2_key_file = \"deployment.key\"", "apiv2_key_file = \"deployment.key\"", "merchant[0].key[0].apiv2_key_file", &["does not hold an API v2 key of 32 ASCII characters"]),
    mistake("certificate_file = \"merchants/1900000001/apiclient_cert.pem\"", "certificate_file = \"merchants/1900000001/apiclient_cert.pem\"\napiv2_key_file = \"merchants/1900000001/apiv3.key\"", "certificate_file = \"merchants/1900000001/apiclient_cert.pem\"\napiv2", "merchant[0].key[0].certificate_file", &["does not belong here; remove the key: an API v2 key is a secret by itself"]),
    mistake("certificate_file = \"merchants/1900000001/apiclient_cert.pem\"", "apiv2_key_file = \"merchants/1900000001/apiv3.key\"\nmd5 = \"never\"", "md5 = \"never\"", "merchant[0].key[0].md5", &["unknown value `never`; write one of `forbid`, `no_payouts`, `allow`"]),
    mistake("status = \"active\"", "status = \"active\"\nmd5 = \"forbid\"", "md5 = \"forbid\"", "merchant[0].key[0].md5", &["does not belong here; remove the key: it is about signatures made with an `apiv2_key_file`"]),
    mistake("scenario = \"pc_site\"", "scenario = \"app\"", "scenario = \"app\"", "merchant[0].interface[2].scenario", &["`app` does not fit `native`; write `pc_site`, `offline`"]),
    mistake("appids = [\"wx0000000000000002\"]", "", "[[merchant.interface]]\nkind = \"mini_program\"", "merchant[0].interface[1].appids", &["missing; add the appids"]),
    mistake("# [[merchant.measure]]\n# kind", "[[merchant.measure]]\nkind = \"warning\"\nreason = \"r\"\nsince = 2026-11-21T00:00:00Z\n#", "[[merchant.measure]]", "merchant[0].measure[0].author", &["missing; add the key"]),
    mistake("# [[merchant.measure]]\n# kind", "[[merchant.measure]]\nkind = \"limit_factor\"\nauthor = \"a\"\nreason = \"r\"\nsince = 2026-11-21T00:00:00Z\n#", "[[merchant.measure]]", "merchant[0].measure[0].permille", &["missing; add the thousandths"]),
    mistake("# [[merchant.measure]]\n# kind", "[[merchant.measure]]\nkind = \"limit_factor\"\npermille = 1001\nauthor = \"a\"\nreason = \"r\"\nsince = 2026-11-21T00:00:00Z\n#", "permille = 1001", "merchant[0].measure[0].permille", &["write 0 to 1000"]),
    mistake("# [[merchant.measure]]\n# kind", "[[merchant.measure]]\nkind = \"suspended\"\nchannel = \"balance\"\nauthor = \"a\"\nreason = \"r\"\nsince = 2026-11-21T00:00:00Z\n#", "channel = \"balance\"", "merchant[0].measure[0].channel", &["does not belong here; remove the key"]),
    mistake("", "[[merchant]]\nmchid = \"1900000001\"\nname = \"n\"\nkind = \"micro\"\ncategory = \"c\"\n[[merchant.key]]\nid = \"PUB_KEY_ID_1\"\npublic_key_file = \"public.pem\"\nstatus = \"active\"\n", "mchid = \"1900000001\"\nname = \"n\"", "merchant[1].mchid", &["occurs twice"]),
    mistake("", "[[merchant]]\nmchid = \"1900000002\"\nname = \"n\"\nkind = \"micro\"\ncategory = \"c\"\n", "[[merchant]]\nmchid = \"1900000002\"", "merchant[1].key", &["has no key"]),
    // Limits and routes.
    mistake("transaction_fen = 500000\nday_fen = 1000000\nmonth_fen = 5000000", "", "[[limit]]\nid = \"customer", "limit[0]", &["no ceiling; give it transaction_fen, day_fen, month_fen, year_fen or lifetime_fen"]),
    mistake("day_fen = 1000000", "day_fen = 400000", "day_fen = 400000", "limit[0].day_fen", &["day_fen is below transaction_fen", "raise it"]),
    mistake("month_fen = 1000000", "month_fen = 1", "month_fen = 1\n", "limit[1].month_fen", &["month_fen is below day_fen"]),
    mistake("month_fen = 1000000", "year_fen = 1", "year_fen = 1\n", "limit[1].year_fen", &["year_fen is below day_fen"]),
    mistake("month_fen = 1000000", "year_fen = 1000000\nlifetime_fen = 999999", "lifetime_fen = 999999", "limit[1].lifetime_fen", &["lifetime_fen is below year_fen"]),
    mistake("#unit = \"fen\"", "unit = \"yuan\"", "unit = \"yuan\"", "limit[0].unit", &["write `fen` or `count`"]),
    mistake("#unit = \"fen\"", "unit = \"count\"\nday_count = 5", "transaction_fen = 500000", "limit[0].transaction_fen", &["remove the key, or write unit = \"fen\""]),
    mistake("day_fen = 100000\nmonth_fen = 1000000", "day_count = 5", "day_count = 5", "limit[1].day_count", &["remove the key, or write unit = \"count\""]),
    mistake("day_fen = 100000\nmonth_fen = 1000000", "unit = \"count\"\nday_count = 5\nyear_count = 4", "year_count = 4", "limit[1].year_count", &["year_count is below day_count"]),
    mistake("day_fen = 100000\nmonth_fen = 1000000", "unit = \"count\"", "[[limit]]\nid = \"micro", "limit[1]", &["no ceiling; give it day_count, month_count"]),
    mistake("#risk_factor_permille = { low = 1000", "risk_factor_permille = { low = 10001", "low = 10001", "limit[0].risk_factor_permille.low", &["write 0 to 10000"]),
    mistake("# [[limit.override]]\n# customer = \"c-20018\"", "[[limit.override]]\n#", "[[limit.override]]\n", "limit[0].override[0].merchant", &["missing; add it, or `customer`"]),
    mistake("# [[limit.override]]\n# customer = \"c-20018\"\n# day_fen = 2000000", "[[limit.override]]\ncustomer = \"c\"\nmerchant = \"1900000001\"\nday_fen = 2000000", "customer = \"c\"", "limit[0].override[0].customer", &["one merchant or for one customer"]),
    mistake("# [[limit.override]]\n# customer = \"c-20018\"\n# day_fen = 2000000", "[[limit.override]]\ncustomer = \"\"\nday_fen = 2000000", "customer = \"\"", "limit[0].override[0].customer", &["write a text of 1 to 128 bytes"]),
    mistake("# [[limit.override]]\n# customer = \"c-20018\"\n# day_fen = 2000000", "[[limit.override]]\nmerchant = \"1900000001\"\nday_fen = 2000000", "merchant = \"1900000001\"", "limit[0].override[0].merchant", &["add \"merchant\" to its `per`"]),
    mistake("# [[limit.override]]\n# customer = \"c-20018\"\n# day_fen = 2000000", "[[limit.override]]\ncustomer = \"c\"\nday_fen = 5000001", "[[limit.override]]\n", "limit[0].override[0].month_fen", &["month_fen is below day_fen"]),
    mistake("# [[limit.override]]\n# customer = \"c-20018\"\n# day_fen = 2000000", "[[limit.override]]\ncustomer = \"c\"\nday_count = 1", "day_count = 1", "limit[0].override[0].day_count", &["remove the key, or write unit = \"count\""]),
    mistake("#refund = \"return\"", "refund = \"gross\"", "refund = \"gross\"", "limit[0].refund", &["unknown value `gross`; write `return` or `keep`"]),
    mistake("when = { merchant_kind = [\"micro\"], ", "when = { authentication = [\"none\"], ", "when = { auth", "limit[1].when.authentication[0]", &["unknown value `none`; write one of `certificate`, `two_factors`, `fewer`"]),
    mistake("#mode = \"enforce\"", "mode = \"off\"", "mode = \"off\"", "limit[0].mode", &["write `enforce` or `shadow`"]),
    mistake("#presets = []", "presets = [\"t9\"]", "\"t9\"", "gate.presets[0]", &["write one of `t10_micro_merchants`"]),
    mistake("#presets = []", "presets = [\"pboc_43\", \"pboc_43\"]", "\"pboc_43\"", "gate.presets[1]", &["taken already, by gate.presets[0]"]),
    mistake("# zone = \"Asia/Shanghai\"", "zone = \"Mars/Olympus\"", "Mars", "limit[0].zone", &["`Mars/Olympus` cannot be used; write the IANA name"]),
    mistake("#cut_over_hour = 0", "cut_over_hour = 24", "cut_over_hour = 24", "limit[0].cut_over_hour", &["write 0 to 23"]),
    mistake("month_fen = 1000000", "lifetime_fen = 0", "lifetime_fen = 0", "limit[1].lifetime_fen", &["write 1 to"]),
    mistake("transaction_fen = 500000", "transaction_fen = 0", "transaction_fen = 0", "limit[0].transaction_fen", &["write 1 to 281474976710655"]),
    mistake("per = [\"merchant\"]", "per = []", "per = []", "limit[1].per", &["name `customer`, `merchant` or `category` in `per`"]),
    mistake("per = [\"merchant\"]", "per = [\"shop\"]", "per = [\"shop\"]", "limit[1].per[0]", &["unknown value `shop`; write one of `customer`"]),
    mistake("id = \"micro-credit-card\"", "id = \"customer-category\"", "id = \"customer-category\"\nwhen", "limit[1].id", &["occurs twice"]),
    mistake("when = { merchant_kind = [\"micro\"], instrument = [\"credit_card\"] }", "when = [[\"micro\"]]", "when = [[", "limit[1].when", &["write one section"]),
    mistake("merchant_kind = [\"micro\"]", "merchant_kinds = [\"micro\"]", "merchant_kinds", "limit[1].when.merchant_kinds", &["unknown key; write `merchant_kind`"]),
    mistake("", "[[route]]\nid = \"v3.refunds\"\ncertificate = \"mtls\"\n", "id = \"v3.refunds\"", "route[0].id", &["`v3.refunds` is not known; write `v3.jsapi`", "`v3.refund`"]),
    mistake("", "[[route]]\nid = \"v2.refund\"\ncertificate = \"signature\"\n", "certificate = \"signature\"", "route[0].certificate", &["write \"mtls\" or \"none\": this route is signed with a secret"]),
    mistake("", "[[route]]\nid = \"v3.refund\"\ncertificate = \"tls\"\n", "certificate = \"tls\"", "route[0].certificate", &["write one of `none`, `signature`, `mtls`"]),
    mistake("", "[[route]]\nid = \"v3.refund\"\ncertificate = \"mtls\"\n[[route]]\nid = \"v3.refund\"\ncertificate = \"none\"\n", "id = \"v3.refund\"\ncertificate = \"none\"", "route[1].id", &["taken already, by route[0]"]),
];

#[test]
fn a_mistake_is_refused_with_its_line_key_and_remedy() {
    let dir = sample();
    let public =
        certificate::inspect(&std::fs::read_to_string(dir.path().join("platform/certificate.pem")).expect("pem"));
    let der = rustls::pki_types::SubjectPublicKeyInfoDer::from(public.expect("certificate").spki_der);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    std::fs::write(dir.path().join("public.pem"), pem).expect("written");
    let text = text_of(&dir);
    let unsaid: Vec<String> = MISTAKES.iter().filter_map(|mistake| unsaid(&dir, &text, mistake)).collect();
    assert!(unsaid.is_empty(), "{}", unsaid.join("\n"));
}

/// Makes a mistake; returns what is said of it where that is not what must be.
fn unsaid(dir: &TempDir, text: &str, Mistake { from, to, on, key, says }: &Mistake) -> Option<String> {
    assert!(text.contains(from), "the template has no {from}");
    let changed = if from.is_empty() { format!("{text}\n{to}") } else { text.replacen(from, to, 1) };
    let Err(error) = load_text(dir, &changed) else { return Some(format!("{to} is taken")) };
    let shown = error.to_string();
    let offset = changed.find(on).unwrap_or_else(|| panic!("{on} is not in the text"));
    let line = 1 + changed[..offset].matches('\n').count();
    let place = if key.is_empty() { format!(":{line}: ") } else { format!(":{line}: {key}: ") };
    let said = error.key == *key && error.line == Some(line) && shown.contains(&place) && shown.contains("; ");
    let said = said && says.iter().all(|part| shown.contains(part));
    (!said).then(|| format!("{shown}\n  should say{place}{says:?}"))
}
