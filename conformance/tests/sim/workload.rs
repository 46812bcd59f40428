//! What clients do, by chance.

use crate::client::{Call, Client};
use crate::env::Env;
use crate::model::By;

const CHANNELS: [&str; 9] =
    ["news", "chat/1", "chat/2", "chat/3", "slow.room", "job.room", "private.box", "forbidden.place", "slow.other"];

/// One action of an open client.
pub(crate) fn act(client: &mut Client, env: &mut Env) {
    let Some(session) = client.session() else { return };
    let channel = *env.rng.pick(&CHANNELS);
    match env.rng.below(40) {
        0..=4 => {
            if !channel.starts_with("forbidden") && !channel.starts_with("private") {
                client.wanted.insert(channel.to_owned());
            }
            client.subscribe(channel);
        }
        5..=6 => {
            client.wanted.remove(channel);
            env.model.leaves(session, channel);
            client.call("#unsubscribe", &format!("\"{channel}\""), Call::Unsubscribe(channel.to_owned()));
        }
        7..=21 => publish(client, env, channel, By::Client),
        22..=23 => publish(client, env, channel, By::Application),
        24 => {
            let value = env.rng.below(1000).to_string();
            client.call("echo", &value, Call::Value(value.clone()));
        }
        25..=28 => {
            let name = *env.rng.pick(&["count", "slow.count", "job.count", "count"]);
            client.call(name, "null", Call::Count { plain: name == "count" });
        }
        29 => {
            let value = env.rng.below(1000).to_string();
            client.call("late", &value, Call::Value(value.clone()));
        }
        30 => {
            let value = env.rng.below(1000);
            client.call("work", &value.to_string(), Call::Value((value + 1).to_string()));
        }
        31..=32 => {
            let count = env.rng.below(5) as u64;
            client.pushed += count;
            client.call("push", &count.to_string(), Call::Push { total: client.pushed });
        }
        33..=34 => {
            let question = env.rng.below(1 << 30) as u64;
            client.call("ask", &question.to_string(), Call::Ask(question));
        }
        35 => client.call("forbidden.event", "1", Call::Refused("ForbiddenError")),
        36 => {
            client.changing += 1;
            if client.token.is_some() && env.rng.once_in(2) {
                client.call("logout", "null", Call::Logout);
            } else {
                client.call("login", "{\"username\":\"bob\"}", Call::Login);
            }
        }
        37 => {
            env.model.leaves(session, channel);
            client.wanted.remove(channel);
            client.call("kick", &format!("\"{channel}\""), Call::Kick);
        }
        38 if env.rng.once_in(4) => client.call("closeMe", "null", Call::Close),
        39 if env.rng.once_in(8) => client.send("{\"event\":\"terminateMe\"}"),
        _ => {}
    }
}

/// Publishes something; now and then something large.
pub(crate) fn publish(client: &mut Client, env: &mut Env, channel: &str, by: By) {
    let Some(session) = client.session() else { return };
    let refused = match channel {
        _ if by == By::Application => None,
        _ if channel.starts_with("forbidden") => Some("ForbiddenError"),
        _ if channel.starts_with("private") && client.changing > 0 => return,
        _ if channel.starts_with("private") && client.token.is_none() => Some("AuthRequiredError"),
        _ => None,
    };
    let id = env.model.publishes(session, channel, by);
    let pad = match env.rng.below(30) {
        0 => 3000 + env.rng.below(12_000),
        1..=4 => 100 + env.rng.below(400),
        _ => 0,
    };
    let data = format!("{{\"channel\":\"{channel}\",\"data\":{{\"id\":{id},\"pad\":\"{}\"}}}}", "x".repeat(pad));
    let event = if by == By::Client { "#publish" } else { "serverPublish" };
    client.call(event, &data, Call::Publish { channel: channel.to_owned(), id, by, refused });
}
