//! Limits being run into at the gate that takes the traffic, and what gives room back.

use super::DemoError;
use super::accounts::unique;
use super::authentic::limit;
use super::client::Answer;
use super::request::Payment;
use super::shows::{Show, promise};
use super::upstream::REFUSE;
use super::world::{Call, Door, World};
use crate::types::Interface;

/// Everything, in the order shown.
pub(super) const ALL: &[Show] = &[
    Show {
        kind: "transaction",
        title: "catering: 500 yuan at once pass, 500.01 do not",
        steps: |world| Box::pin(transaction(world)),
    },
    Show {
        kind: "day",
        title: "catering by balance: one customer, 1,000 yuan a day",
        steps: |world| Box::pin(day(world)),
    },
    Show {
        kind: "day",
        title: "another customer, and quick pay, have room of their own",
        steps: |world| Box::pin(day_of_others(world)),
    },
    Show {
        kind: "given back",
        title: "a closed order gives its amount back",
        steps: |world| Box::pin(given_back_by_close(world)),
    },
    Show {
        kind: "given back",
        title: "an order that the service refused gives its amount back",
        steps: |world| Box::pin(given_back_by_refusal(world)),
    },
];

async fn transaction(world: &World) -> Result<(), DemoError> {
    let pay = |amount_fen| world.accounts.tea_house.pay(Interface::Native, &Payment::new(amount_fen));
    world.main.admit(pay(50_000)).await?;
    exceeded(&world.main.send(pay(50_001)).await?, "catering-quick-pay", "transaction")
}

async fn day(world: &World) -> Result<(), DemoError> {
    let customer = unique();
    for _ in 0..2 {
        world.main.admit(by_balance(world, &customer, 50_000)).await?;
    }
    exceeded(&world.main.send(by_balance(world, &customer, 1)).await?, "catering-balance", "day")
}

async fn day_of_others(world: &World) -> Result<(), DemoError> {
    let customer = unique();
    for _ in 0..2 {
        world.main.admit(by_balance(world, &customer, 50_000)).await?;
    }
    world.main.admit(by_balance(world, &unique(), 50_000)).await?;
    let pay = world.accounts.tea_house.pay(Interface::Jsapi, &Payment::new(50_000)).signed();
    let quick = pay.with("tollgate-customer", &customer).with("tollgate-channel", "quick_pay");
    world.main.admit(quick.through(Door::Hop)).await.map(|_| ())
}

async fn given_back_by_close(world: &World) -> Result<(), DemoError> {
    let customer = unique();
    for _ in 0..3 {
        let call = by_balance(world, &customer, 50_000);
        let number = serde_json::from_slice::<serde_json::Value>(&call.signed.body).ok();
        let number = number.as_ref().and_then(|body| body.get("out_trade_no")?.as_str()).unwrap_or_default();
        world.main.admit(call.clone()).await?;
        world.main.admit(world.accounts.tea_house.close(number)).await?;
    }
    Ok(())
}

async fn given_back_by_refusal(world: &World) -> Result<(), DemoError> {
    let customer = unique();
    for _ in 0..3 {
        let refused = Payment::new(50_000).scripted(REFUSE);
        let answer = world.main.send(by_balance_as(world, &customer, &refused)).await?;
        promise(answer.code() == "TRADE_ERROR", "the service refuses, not the gate")?;
    }
    Ok(())
}

fn by_balance(world: &World, customer: &str, amount_fen: u64) -> Call {
    by_balance_as(world, customer, &Payment::new(amount_fen))
}

/// A payment by balance, as the platform's cashier passes it on: it knows the customer and the channel.
fn by_balance_as(world: &World, customer: &str, payment: &Payment) -> Call {
    let pay = world.accounts.tea_house.pay(Interface::Jsapi, payment).signed();
    pay.with("tollgate-customer", customer).with("tollgate-channel", "balance").through(Door::Hop)
}

fn exceeded(answer: &Answer, limit_id: &str, window: &str) -> Result<(), DemoError> {
    promise((answer.status, &*answer.code()) == (403, "RULE_LIMIT"), "what passes the limit is refused")?;
    let detail = answer.member("/detail").unwrap_or_default();
    promise(limit(&detail, limit_id, Some(window)), "the answer names limit and window")
}
