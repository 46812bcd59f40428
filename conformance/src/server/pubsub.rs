//! Channels: subscriptions, publishes, middleware, kicks.

use serde_json::{Value, json};

use super::{Check, is_v1};
use crate::check::{Verdict, ensure, equal, member};
use crate::peer::{Answer, Peer};
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("subscribe/delivers", "SC server: #subscribe, #publish", delivers),
    Check::both("subscribe/deliveries-carry-no-cid", "SC 5.3: nobody acks #publish", no_cid),
    Check::both("subscribe/twice", "SC server: one delivery all the same", twice),
    Check::both("subscribe/invalid-channel", "SC 14: BrokerError; SC 20: InvalidActionError", invalid_channel),
    Check::v1("subscribe/bare-name", "SC 4.1.3 to 14: a bare name will do", bare_name_v1),
    Check::v2("subscribe/bare-name", "SC 20: malformatted", bare_name_v2),
    Check::both("subscribe/blocked", "SC server: subscribe middleware", blocked),
    Check::both("subscribe/blocked-silently", "SC server: SilentMiddlewareBlockedError", blocked_silently),
    Check::both("subscribe/data-reaches-middleware", "SC 4.1.11: data in the options", data_reaches_middleware),
    Check::both("subscribe/deferred", "SC server: a verdict may take its time", deferred),
    Check::v2("subscribe/deferred-keeps-order", "SC 20: one packet after the other", deferred_keeps_order),
    Check::both("unsubscribe/ends-deliveries", "SC server: #unsubscribe", unsubscribe),
    Check::v2("unsubscribe/not-subscribed", "SC 20: BrokerError", not_subscribed),
    Check::v1("unsubscribe/not-subscribed", "SC 4: an ack; SC 11 to 14: BrokerError", not_subscribed_v1),
    Check::v1("publish/own-before-ack", "SC 14: delivery, then ack", own),
    Check::v2("publish/ack-before-own", "SC 20: ack, then delivery", own),
    Check::both("publish/without-subscription", "SC server: publishing needs none", without_subscription),
    Check::both("publish/in-order", "SC server: one broker for a channel", in_order),
    Check::both("publish/without-data", "SC server: no data member arrives", without_data),
    Check::both("publish/invalid-channel", "SC 14: BrokerError; SC 20: InvalidActionError", publish_invalid),
    Check::both("publish/blocked", "SC server: publishIn middleware", publish_blocked),
    Check::both("publish/rewritten", "SC server: publishIn may rewrite data", rewritten),
    Check::both("publish/filtered-for-each", "SC server: publishOut middleware", filtered),
    Check::both("publish/by-the-server", "SC server: exchange.publish", by_the_server),
    Check::both("kick/one-channel", "SC server: #kickOut", kick),
    Check::both("kick/all-channels", "SC server: kickOut without a channel", kick_all),
];

fn subscribe(peer: &mut Peer, channel: &str) -> Verdict<Answer> {
    peer.call("#subscribe", Some(json!({ "channel": channel })))
}

fn publish(peer: &mut Peer, channel: &str, data: &Value) -> Verdict<Answer> {
    peer.call("#publish", Some(json!({ "channel": channel, "data": data })))
}

/// A connection that is subscribed.
fn reader(target: &Target, channel: &str) -> Verdict<Peer> {
    let mut peer = Peer::open(target)?;
    subscribe(&mut peer, channel)?.ok()?;
    Ok(peer)
}

fn next(peer: &mut Peer) -> Verdict<Value> {
    Ok(peer.event("#publish")?["data"].clone())
}

/// A name that no other check uses.
fn channel(target: &Target, prefix: &str) -> String {
    format!("{prefix}check-{}-{}", std::process::id(), target.next_seed())
}

fn delivers(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut readers = [reader(target, &channel)?, reader(target, &channel)?];
    let mut writer = Peer::open(target)?;
    let data = json!({ "n": [1, null, "é"] });
    publish(&mut writer, &channel, &data)?.ok()?;
    for reader in &mut readers {
        equal("what is delivered", next(reader)?, json!({ "channel": channel, "data": data }))?;
    }
    writer.barrier()?;
    equal("deliveries to one who is not subscribed", writer.unseen("#publish"), 0)
}

fn no_cid(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut reader = reader(target, &channel)?;
    publish(&mut reader, &channel, &json!(1))?.ok()?;
    let packet = reader.event("#publish")?;
    ensure(packet.get("cid").is_none(), || format!("nobody waits for an ack of {packet}"))
}

fn twice(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut reader = reader(target, &channel)?;
    subscribe(&mut reader, &channel)?.ok()?;
    for n in [1, 2] {
        publish(&mut reader, &channel, &json!(n))?.ok()?;
    }
    member("the first delivery", &next(&mut reader)?["data"], json!(1))?;
    member("the second delivery", &next(&mut reader)?["data"], json!(2))
}

fn invalid(target: &Target) -> &'static str {
    if is_v1(target) { "BrokerError" } else { "InvalidActionError" }
}

fn invalid_channel(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    peer.call("#subscribe", Some(json!({ "channel": 5 })))?.refused(invalid(target))?;
    peer.call("#subscribe", Some(json!({})))?.refused(invalid(target))
}

fn bare_name_v1(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let channel = channel(target, "");
    peer.call("#subscribe", Some(json!(channel)))?.ok()?;
    publish(&mut peer, &channel, &json!(1))?.ok()?;
    next(&mut peer).map(drop)
}

fn bare_name_v2(target: &Target) -> Verdict {
    Peer::open(target)?.call("#subscribe", Some(json!("bare")))?.refused("InvalidActionError")
}

fn blocked(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let answer = subscribe(&mut peer, "forbidden.room")?;
    answer.refused("ForbiddenError")?;
    equal("code", answer.error_member("code"), Some(&json!("ECHANNEL")))?;
    equal("channel", answer.error_member("channel"), Some(&json!("forbidden.room")))
}

fn blocked_silently(target: &Target) -> Verdict {
    subscribe(&mut Peer::open(target)?, "silent.room")?.refused("SilentMiddlewareBlockedError")
}

fn data_reaches_middleware(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    subscribe(&mut peer, "member.room")?.refused("ForbiddenError")?;
    peer.call("#subscribe", Some(json!({ "channel": "member.room", "data": { "pass": "open" } })))?.ok().map(drop)
}

fn deferred(target: &Target) -> Verdict {
    let channel = channel(target, "slow.");
    let mut peer = reader(target, &channel)?;
    publish(&mut peer, &channel, &json!(1))?.ok()?;
    next(&mut peer).map(drop)
}

fn deferred_keeps_order(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let channel = channel(target, "slow.");
    peer.emit("#subscribe", Some(json!({ "channel": channel })))?;
    let who = peer.call("whoami", None)?.ok()?;
    member("subscriptions, asked for behind a deferred verdict", &who["subscriptions"], json!([channel]))
}

fn unsubscribe(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut leaver = reader(target, &channel)?;
    let mut stayer = reader(target, &channel)?;
    leaver.call("#unsubscribe", Some(json!(channel)))?.ok()?;
    publish(&mut stayer, &channel, &json!(1))?.ok()?;
    next(&mut stayer)?;
    leaver.barrier()?;
    equal("deliveries after the ack of #unsubscribe", leaver.unseen("#publish"), 0)
}

fn not_subscribed(target: &Target) -> Verdict {
    Peer::open(target)?.call("#unsubscribe", Some(json!("neverThere")))?.refused("BrokerError")
}

/// Clients of SC 3 to 10 do not expect an error here, those of SC 11 to 14 do not mind an ack.
fn not_subscribed_v1(target: &Target) -> Verdict {
    let answer = Peer::open(target)?.call("#unsubscribe", Some(json!("neverThere")))?;
    if answer.error.is_some() { answer.refused("BrokerError") } else { Ok(()) }
}

fn own(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut peer = reader(target, &channel)?;
    let cid = peer.emit("#publish", Some(json!({ "channel": channel, "data": 1 })))?;
    peer.answer(&json!(cid))?.ok()?;
    peer.event("#publish")?;
    let delivery_first = peer.place_of_event("#publish") < peer.place_of_answer(cid);
    equal("the delivery comes before the ack", delivery_first, is_v1(target))
}

fn without_subscription(target: &Target) -> Verdict {
    let channel = channel(target, "");
    publish(&mut Peer::open(target)?, &channel, &json!(1))?.ok().map(drop)
}

fn in_order(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut reader = reader(target, &channel)?;
    let mut writer = Peer::open(target)?;
    for n in 0..100 {
        writer.emit("#publish", Some(json!({ "channel": channel, "data": n })))?;
    }
    for n in 0..100 {
        member("a delivery", &next(&mut reader)?["data"], json!(n))?;
    }
    Ok(())
}

fn without_data(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut reader = reader(target, &channel)?;
    reader.call("#publish", Some(json!({ "channel": channel })))?.ok()?;
    equal("what is delivered", next(&mut reader)?, json!({ "channel": channel }))
}

fn publish_invalid(target: &Target) -> Verdict {
    Peer::open(target)?.call("#publish", Some(json!({ "channel": 5, "data": 1 })))?.refused(invalid(target))
}

fn publish_blocked(target: &Target) -> Verdict {
    let channel = channel(target, "readonly.");
    let mut reader = reader(target, &channel)?;
    let answer = publish(&mut reader, &channel, &json!(1))?;
    answer.refused("ForbiddenError")?;
    equal("code", answer.error_member("code"), Some(&json!("EREADONLY")))?;
    reader.barrier()?;
    equal("deliveries of what was blocked", reader.unseen("#publish"), 0)
}

fn rewritten(target: &Target) -> Verdict {
    let channel = channel(target, "stamp.");
    let mut reader = reader(target, &channel)?;
    publish(&mut reader, &channel, &json!("x"))?.ok()?;
    member("what is delivered", &next(&mut reader)?["data"], json!({ "data": "x", "by": null }))
}

fn filtered(target: &Target) -> Verdict {
    let channel = channel(target, "noecho.");
    let mut writer = Peer::connect(target, "")?;
    let id = writer.handshake(None)?.ok()?["id"].clone();
    subscribe(&mut writer, &channel)?.ok()?;
    let mut other = reader(target, &channel)?;
    publish(&mut writer, &channel, &json!({ "from": id, "n": 1 }))?.ok()?;
    publish(&mut writer, &channel, &json!({ "from": "somebody", "n": 2 }))?.ok()?;
    member("the first delivery to another", &next(&mut other)?["data"]["n"], json!(1))?;
    member("the first delivery to the writer", &next(&mut writer)?["data"]["n"], json!(2))
}

fn by_the_server(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut reader = reader(target, &channel)?;
    let mut other = Peer::open(target)?;
    other.call("serverPublish", Some(json!({ "channel": channel, "data": [1] })))?.ok()?;
    member("what is delivered", &next(&mut reader)?["data"], json!([1]))
}

fn kick(target: &Target) -> Verdict {
    let channel = channel(target, "");
    let mut kicked = reader(target, &channel)?;
    let mut other = reader(target, &channel)?;
    kicked.call("kick", Some(json!({ "channel": channel, "message": "out" })))?.ok()?;
    let packet = kicked.event("#kickOut")?;
    member("#kickOut", &packet["data"], json!({ "channel": channel, "message": "out" }))?;
    publish(&mut other, &channel, &json!(1))?.ok()?;
    next(&mut other)?;
    kicked.barrier()?;
    equal("deliveries after #kickOut", kicked.unseen("#publish"), 0)?;
    let who = kicked.call("whoami", None)?.ok()?;
    member("subscriptions", &who["subscriptions"], json!([]))
}

fn kick_all(target: &Target) -> Verdict {
    let channels = [channel(target, "a"), channel(target, "b")];
    let mut kicked = reader(target, &channels[0])?;
    subscribe(&mut kicked, &channels[1])?.ok()?;
    kicked.call("kick", Some(json!({ "message": "out" })))?.ok()?;
    let mut got = Vec::new();
    for _ in 0..2 {
        got.push(kicked.event("#kickOut")?["data"]["channel"].as_str().unwrap_or_default().to_owned());
    }
    got.sort_unstable();
    equal("the channels", got, channels.to_vec())?;
    let who = kicked.call("whoami", None)?.ok()?;
    member("subscriptions", &who["subscriptions"], json!([]))
}
