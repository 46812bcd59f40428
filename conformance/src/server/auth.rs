//! Tokens: login, logout, `#authenticate`, expiry.

use serde_json::{Value, json};

use super::handshake::FORGED;
use super::{Check, is_v1};
use crate::check::{Stop, Verdict, ensure, equal, member};
use crate::peer::Peer;
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("auth/login", "SC server: #setAuthToken, before the ack", login_check),
    Check::both("auth/login-refused", "CONTRACT 3: login", login_refused),
    Check::both("auth/token-at-handshake", "SC server: isAuthenticated", token_at_handshake),
    Check::both("auth/authenticate", "SC server: #authenticate", authenticate),
    Check::both("auth/authenticate-forged", "SC 14: removed, then the ack; SC 20: the ack, then removed", forged),
    Check::both("auth/logout", "SC server: #removeAuthToken", logout),
    Check::both("auth/client-gives-token-back", "SC server: #removeAuthToken of the client, never acked", gives_back),
    Check::both("auth/private-channel", "SC server: middleware sees the token", private_channel),
    Check::both("auth/expiry", "SC server: AuthTokenExpiredError, with its time", expiry),
    Check::both("auth/expired-at-handshake", "jsonwebtoken: jwt expired", expired_at_handshake),
];

/// Logs in; answers the token.
fn login(peer: &mut Peer, expires_in: Option<u64>) -> Verdict<String> {
    let mut data = json!({ "username": "bob", "password": "pw-bob" });
    if let Some(secs) = expires_in {
        data["expiresIn"] = json!(secs);
    }
    let cid = peer.emit("login", Some(data))?;
    equal("the answer to login", peer.answer(&json!(cid))?.ok()?, json!({ "username": "bob" }))?;
    let packet = peer.event("#setAuthToken")?;
    if packet["cid"].is_number() {
        peer.send(&json!({ "rid": packet["cid"] }).to_string())?;
    }
    packet["data"]["token"].as_str().map(str::to_owned).ok_or_else(|| Stop::fail(format!("no token in {packet}")))
}

fn who(peer: &mut Peer) -> Verdict<Value> {
    peer.call("whoami", None)?.ok()
}

fn login_check(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let token = login(&mut peer, None)?;
    equal("the parts of the token", token.split('.').count(), 3)?;
    let order = (peer.place_of_event("#setAuthToken"), peer.log.iter().position(|packet| packet["rid"] == 2));
    ensure(order.0 < order.1, || "the token comes behind the ack".to_owned())?;
    let who = who(&mut peer)?;
    member("authState", &who["authState"], json!("authenticated"))?;
    member("username", &who["authToken"]["username"], json!("bob"))?;
    ensure(who["authToken"]["exp"].is_number(), || format!("the token has no expiry: {who}"))
}

fn login_refused(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let answer = peer.call("login", Some(json!({ "username": "bob", "password": "wrong" })))?;
    answer.refused("LoginError")?;
    equal("code", answer.error_member("code"), Some(&json!("ELOGIN")))?;
    member("authState", &who(&mut peer)?["authState"], json!("unauthenticated"))
}

fn token_at_handshake(target: &Target) -> Verdict {
    let token = login(&mut Peer::open(target)?, None)?;
    let mut peer = Peer::connect(target, "")?;
    let data = peer.handshake(Some(&token))?.ok()?;
    member("isAuthenticated", &data["isAuthenticated"], json!(true))?;
    member("username", &who(&mut peer)?["authToken"]["username"], json!("bob"))
}

fn authenticate(target: &Target) -> Verdict {
    let token = login(&mut Peer::open(target)?, None)?;
    let mut peer = Peer::open(target)?;
    let data = peer.call("#authenticate", Some(json!(token)))?.ok()?;
    member("isAuthenticated", &data["isAuthenticated"], json!(true))?;
    member("authState", &who(&mut peer)?["authState"], json!("authenticated"))
}

fn forged(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    login(&mut peer, None)?;
    let cid = peer.emit("#authenticate", Some(json!(FORGED)))?;
    let answer = peer.answer(&json!(cid))?;
    answer.refused("AuthTokenInvalidError")?;
    peer.event("#removeAuthToken")?;
    let removed_first = peer.place_of_event("#removeAuthToken") < peer.place_of_answer(cid);
    equal("#removeAuthToken comes before the ack", removed_first, is_v1(target))?;
    member("the good token counts no more", &who(&mut peer)?["authState"], json!("unauthenticated"))
}

fn logout(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    login(&mut peer, None)?;
    peer.call("logout", None)?.ok()?;
    peer.event("#removeAuthToken")?;
    member("authState", &who(&mut peer)?["authState"], json!("unauthenticated"))
}

fn gives_back(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    login(&mut peer, None)?;
    peer.send(r##"{"event":"#removeAuthToken"}"##)?;
    member("authState", &who(&mut peer)?["authState"], json!("unauthenticated"))
}

fn private_channel(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let channel = Some(json!({ "channel": "private.room" }));
    peer.call("#subscribe", channel.clone())?.refused("AuthRequiredError")?;
    login(&mut peer, None)?;
    peer.call("#subscribe", channel)?.ok().map(drop)
}

/// Asks until a token of one second has expired.
fn outlive(peer: &mut Peer) -> Verdict<crate::peer::Answer> {
    let began = std::time::Instant::now();
    loop {
        let answer = peer.call("user.echo", Some(json!(1)))?;
        if answer.error.is_some() {
            return Ok(answer);
        }
        ensure(began.elapsed().as_secs() < 5, || "a token of one second does not expire".to_owned())?;
    }
}

fn expiry(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    login(&mut peer, Some(1))?;
    let answer = outlive(&mut peer)?;
    answer.refused("AuthTokenExpiredError")?;
    equal("the message", answer.error_member("message"), Some(&json!("The socket auth token has expired")))
        .or_else(|_| equal("the message", answer.error_member("message"), Some(&json!("jwt expired"))))?;
    ensure(answer.error_member("expiry").is_some(), || format!("without its time: {answer:?}"))?;
    peer.event("#removeAuthToken").map(drop)
}

fn expired_at_handshake(target: &Target) -> Verdict {
    let mut peer = Peer::open(target)?;
    let token = login(&mut peer, Some(1))?;
    outlive(&mut peer)?;
    let mut again = Peer::connect(target, "")?;
    let data = again.handshake(Some(&token))?.ok()?;
    member("isAuthenticated", &data["isAuthenticated"], json!(false))?;
    member("the error's name", &data["authError"]["name"], json!("AuthTokenExpiredError"))?;
    member("its message", &data["authError"]["message"], json!("jwt expired"))?;
    again.event("#removeAuthToken").map(drop)
}
