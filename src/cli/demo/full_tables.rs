//! Cases in which a bounded part of the gate is full. Each starts a gate of its own with that one bound made small.

use std::time::Duration;

use super::before_anybody_is_known::system;
use super::cases::{Case, Expected};
use super::configuration::Bounds;
use super::request::Payment;
use super::world::{Call, Door, World};
use super::{DemoError, accounts::Account, client::Answer};
use crate::types::Interface;

pub(super) fn body_budget_exhausted() -> Case {
    Expected::unsigned(503, "SERVICE_UNAVAILABLE").after("a slow body holds the budget of all bodies", |world| {
        Box::pin(async move {
            let bounds = Bounds { body_bytes_max: MIB, bodies_bytes_max: MIB, ..world.small() };
            world.at_gate("body-budget", bounds, system(), async |gate| while_held(world, gate).await).await
        })
    })
}

/// Sends most of a body that takes the whole budget, and while the rest is awaited another request.
async fn while_held(world: &World, gate: &super::world::DemoGate) -> Result<Answer, DemoError> {
    let store = &world.accounts.store;
    let most = "x".repeat(usize::try_from(MIB / 2).unwrap_or(0));
    let slow = Call::from(store.echo(&most)).promising(MIB);
    let mut holder = gate.doors().open(Door::Public).await?;
    let holding = tokio::spawn(async move { holder.send(slow.request()).await });
    while gate.bodies_bytes() < MIB / 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if holding.is_finished() {
            return Err(DemoError::Setup("the slow body was not held"));
        }
    }
    let answer = gate.send(store.echo(&most)).await;
    holding.abort();
    answer
}

pub(super) fn nonce_table_full() -> Case {
    Expected::unsigned(503, "SERVICE_UNAVAILABLE").after("a second request where one nonce has room", |world| {
        Box::pin(async move {
            let bounds = Bounds { nonces_max: 1, nonces_per_merchant_max: 1, ..world.small() };
            let calls = [hello(&world.accounts.store), hello(&world.accounts.tea_house)];
            second_of(world, "nonce-table", bounds, calls).await
        })
    })
}

pub(super) fn nonce_share_full() -> Case {
    Expected::unsigned(429, "FREQUENCY_LIMITED").after("a second request of a merchant with a share of one", |world| {
        Box::pin(async move {
            let bounds = Bounds { nonces_max: 2, nonces_per_merchant_max: 1, ..world.small() };
            let calls = [hello(&world.accounts.store), hello(&world.accounts.store)];
            second_of(world, "nonce-share", bounds, calls).await
        })
    })
}

pub(super) fn order_table_full() -> Case {
    Expected::signed(503, "SERVICE_UNAVAILABLE").after("a second order where one has room", |world| {
        Box::pin(async move {
            let bounds = Bounds { orders_max: 1, orders_per_merchant_max: 1, ..world.small() };
            let calls = [pay(&world.accounts.store), pay(&world.accounts.tea_house)];
            second_of(world, "order-table", bounds, calls).await
        })
    })
}

pub(super) fn order_share_full() -> Case {
    Expected::signed(429, "FREQUENCY_LIMITED").after("a second order of a merchant with a share of one", |world| {
        Box::pin(async move {
            let bounds = Bounds { orders_max: 2, orders_per_merchant_max: 1, ..world.small() };
            let calls = [pay(&world.accounts.store), pay(&world.accounts.store)];
            second_of(world, "order-share", bounds, calls).await
        })
    })
}

/// A payment whose channel is not known takes three rows: one in the limit of each channel, and one of the merchant's.
pub(super) fn quota_table_full() -> Case {
    Expected::signed(503, "SERVICE_UNAVAILABLE").after(
        "a second customer where one customer's rows have room",
        |world| {
            Box::pin(async move {
                let bounds = Bounds { rows_max: 3, rows_per_merchant_max: 3, ..world.small() };
                let calls = [pay(&world.accounts.store), pay(&world.accounts.tea_house)];
                second_of(world, "row-table", bounds, calls).await
            })
        },
    )
}

pub(super) fn quota_share_full() -> Case {
    Expected::signed(429, "FREQUENCY_LIMITED").after("a second customer of a merchant with a share of one", |world| {
        Box::pin(async move {
            let bounds = Bounds { rows_max: 6, rows_per_merchant_max: 3, ..world.small() };
            let calls = [pay(&world.accounts.store), pay(&world.accounts.store)];
            second_of(world, "row-share", bounds, calls).await
        })
    })
}

/// Sends two requests to a gate of their own; the first is admitted, the second is the case.
async fn second_of(world: &World, name: &str, bounds: Bounds, calls: [Call; 2]) -> Result<Answer, DemoError> {
    let [first, second] = calls;
    world
        .at_gate(name, bounds, system(), async |gate| {
            gate.admit(first).await?;
            gate.send(second).await
        })
        .await
}

fn hello(account: &Account) -> Call {
    account.echo("hello").into()
}

fn pay(account: &Account) -> Call {
    account.pay(Interface::Jsapi, &Payment::new(100)).into()
}

const MIB: u64 = 1024 * 1024;
