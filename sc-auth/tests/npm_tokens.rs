//! Tokens that the npm package jsonwebtoken 8.5.1 made are good here, for every algorithm that both know. (EdDSA is not
//! among its own; that one is of Node's crypto.)

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use sc_auth::Algorithm::*;
use sc_auth::{Algorithm, AuthEngine, JwtConfig, JwtEngine, Key, VerifyKey};
use support::*;

/// Claims of all of them: username bob, iat 1700000000, exp 4102444800.
const EXP: u64 = 4_102_444_800;

enum Kind {
    Shared,
    Rsa,
    P256,
    P384,
    Ed,
}
use Kind::*;

#[rustfmt::skip]
fn tokens() -> Vec<(Algorithm, Kind, &'static str)> {
    vec![
        (
            HS256,
            Shared,
            concat!(
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.62-TZNY0tn9FE0g0qpeKjR5KcP2nAGBWKAkDRm3cel4"
            ),
        ),
        (
            HS384,
            Shared,
            concat!(
            "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.yEIE9a9wJNVCOXJTDOxGBBxodioUmFZzZ783wi9banZ-fEfrKAHtuPWeYIfpo8B8"
            ),
        ),
        (
            HS512,
            Shared,
            concat!(
            "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.G2Io14fPLDOt8lNfxD9QhQueHEFidULO8pHmnK7ivun5fmrUgpQ1NAsaFSbGC9Vs_1vLdWUD7DECaebTFjGGOg"
            ),
        ),
        (
            RS256,
            Rsa,
            concat!(
            "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.M4-cShcM0ANOgy2wPGIpKK6CoQNnsJr-r_5Xd9OsI6jP52I3pZKMLOgywfbxiy3AzlSmPMF5AK8dmNXXANBEYqzPeQxR",
            "KFByj5dE2EbI3R-QD808uvsHZpjJHWjOREpa20jQuK6S1kqSIZ1AzweCEfCEE415yEX_UW6WqAcK9BxgOJpfXPwGWa_V2gXCGXhp",
            "eCz0aBFGigXKLkFTyu4WnhRzPtVkkum0ep-vBSJHq6NIHnMydTfYAHyQjlmQmZf1PbdltDQHUlWAHoX4TGohbzKxjNj0s_dyiPey",
            "Uv1COLUrR126O90Fi83faQwGuFuItP4YAMz8zZMtCaZXnr3XOA"
            ),
        ),
        (
            RS384,
            Rsa,
            concat!(
            "eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.ePKFnN-a8imJ6mjW_ZYwr8SnQTW_FwdOnNQjwhy_OLtgGgXhQmFl-32-GZMAENh3tDc-h5mUym0vs2-d6tdelIXUNDNK",
            "a5zDLrmq1KB-MkxaxPiYeZjNqeagqEO_weQ_nLuXFRV5KlDQhjUKG819mbdcQawwv9MWwpANVJr0tPTu-jUmbc9UM3TvGmCzvwa5",
            "zrjIlh0xbNenf-UL3N4WR9MQGLcouSZWDTrr3osvm7Qurmta2olNfOuod8TMFpgt17POsEB0sRuwJL5w_LYO3HuAyS8F_eDvV1Kl",
            "fXZgqNrnhmKMIXS69nZxQKs2uUTWKCVxieJqJdUN6ymvbnSL3A"
            ),
        ),
        (
            RS512,
            Rsa,
            concat!(
            "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.VXlpdBL-A60zWSDFpDpb2uxPzSSSAYgJ-BGCDUWeaBXuVaI6cRJWlUnKZC8TW0DLyuQsW_nrDp7k-Zm6_C8i0oXKFO7L",
            "ag4zYB48Dw6P6fRY7MskN3mLV8zOFPbS_JG3SLfQ5Ju9o6AKwIqqH5OcdmClODuTKxTiSdh9jtzZi3kRvOy7mKMvbTCyUlCs_-qf",
            "hdbwmTMhi5AFF7nI3zbLUeYyudPcr2ovFfL8ME4qOZhY4waBey48TA3P1AA6CiEu4TvLepzeSGT33etC71EGena6arVYJ8ARsRtK",
            "aqTC4RDBmS9iyG14AmTuRErtqeqslioYhN68uMHkcblunKSsTA"
            ),
        ),
        (
            PS256,
            Rsa,
            concat!(
            "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.foymZStoBROmJgow-3Jmp6fFCtN5FqJKeCYB2mGNZqjKQgqn6vHTGnlbCnCTJP-M68zlOC_zBapFhiDVeNOLCe1tZriP",
            "1gHCl6eoIbR1bbR6_DOXRbcxJrbH1nAyFnJCI9bMTP17TgiNA04_XbGIjLmWDnm1wrL0f_r95jRudvRBnVA89QFWL7D-DXsUP7WM",
            "eYZqkEUZzc8cExzq_XVhi6npaThcvGi0yPMepwNGEE92zDVlxN5s2UCaafUogJwfqmushzZhcggAJ9Ob-QYrhMWWuViHMJyvsCMg",
            "pySZ_N-0Nq1_1opDwmo2xuXzFX9rGz85DPF9jkIScVSLRT5lSg"
            ),
        ),
        (
            PS384,
            Rsa,
            concat!(
            "eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.fGASZjRmEQiMGNMlk9r4Nd0Mm7isWzEzFX2N1V0LC2yjRS4bvq1xnD95ieL9fz-gbDf5Mat0pfaPs8b4MIexvLvd_fn_",
            "Xzr_QCVTEGECFrHJuEfOWV_XkCfgb7AgAX_qTvC_ySXogqIQ6zZ0wAxE8jwApDgi4pdf6-vu37mVgfS63AW6NkeZ2e_3-wFd7GRe",
            "vQ0boZbJJVHaMiLBYlvO-TFpjB356lz_Z0nkO52W7fKcIKUk1smMjEfTLare9ISev2Z9B_9JuaN8VTTbnsEGX1UmRzlqUw-Nh13D",
            "_t48W64vjxRDa07tCaLb8q5Zww-luZj_-tKFG9ztFnu0nncbBw"
            ),
        ),
        (
            PS512,
            Rsa,
            concat!(
            "eyJhbGciOiJQUzUxMiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.EgHOB64EaEF0fDbvfmeQ3bG-JAhAD5HSzJrGQzO-25WGnBj2i1vsuj3TzYUmEjt8gLpFsDsUuC_wYRRGkgKFTj3jPgbT",
            "E6jD8QcIxwKZ-FiL61QNxVpraz9K3tJxaVHA1lZJSkE4SfjBS-9aZZu5YPKAJDPsnX7aHSk4ooNlD2k88Cem76ZqaZjogrhfByJk",
            "4zYMVPOxjZh6ggDozQExExt-pvuhzhFMGjhYK5uBi67_gdAb5DDbRkAtLhJIm5vu4etwIIAi_rKAS1N21QHZ5-2sSC96Rb79S1gM",
            "O3qWju7wRnX1SQdIGKB-H7f7nxjVpVLmlJn2l2c-xpPTZOaefg"
            ),
        ),
        (
            ES256,
            P256,
            concat!(
            "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.j1DsoRxPXJ6qnSBAOb-U5WNuyY6dySqOAOzFEvLWLyG62yUhQNs9vWwi8ohtk-BdSFzW-ytQRRS-Zna2ItbJIQ"
            ),
        ),
        (
            ES384,
            P384,
            concat!(
            "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.AqBWaD77jfNE_qORo1C04VCgKpfwnTSteoxNX5-RohjHQwtKwA7sYuRfGmrZ_HVNcSmlAfRQCspVtuT8XWhO0SG5Ag6N",
            "YR3Gv2S6W2y_TVovY8BOMv7re2u_g5MS0YWv"
            ),
        ),
        (
            EdDSA,
            Ed,
            concat!(
            "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImJvYiIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ",
            "0ODAwfQ.WsPaaIcEd7hlgnQjOs2CJzd-4Pg8SaCBsrj9I20fvt9UUrEFTVYO9QrvH1hfvJ11r74CGPlB9-P1tt82EsRdBQ"
            ),
        ),
    ]
}

/// HS256 with the text of the RSA public key as the secret.
#[rustfmt::skip]
const CONFUSED: &str = concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImFkbWluIn0.xZqwksiL8uQKZKbQcNesSsPyzu-YZkTBbQ3",
        "rfHuC2EQ"
);

fn key(kind: &Kind) -> Key {
    match kind {
        Shared => Key::shared(SECRET).unwrap(),
        Rsa => Key::pair(RSA, RSA_PUB).unwrap(),
        P256 => Key::pair(ES256_KEY, ES256_PUB).unwrap(),
        P384 => Key::pair(ES384_KEY, ES384_PUB).unwrap(),
        Ed => Key::pair(ED_KEY, ED_PUB).unwrap(),
    }
}

#[test]
fn every_algorithm_verifies_and_expires() {
    for (algorithm, kind, token) in tokens() {
        let engine = JwtEngine::new(JwtConfig::new(key(&kind))).unwrap();
        let claims = engine.verify(token, EXP - 1).unwrap();
        assert_eq!(claims["username"], "bob", "{algorithm}");
        let late = engine.verify(token, EXP).unwrap_err();
        assert_eq!(late.name(), "AuthTokenExpiredError", "{algorithm}");
    }
}

/// Which algorithms are there is the key's decision: each token with each key.
#[test]
fn a_key_of_another_kind_does_not_know_the_algorithm() {
    for kind in [Shared, Rsa, P256, P384, Ed] {
        let key = key(&kind);
        let fitting = key.algorithms();
        let engine = JwtEngine::new(JwtConfig::new(key)).unwrap();
        for (algorithm, _, token) in tokens() {
            let answer = engine.verify(token, 0).map_err(|e| e.to_string());
            if fitting.contains(&algorithm) {
                assert!(answer.is_ok(), "{algorithm}");
            } else {
                assert_eq!(answer, Err("invalid algorithm".to_owned()), "{algorithm}");
            }
        }
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let engine = JwtEngine::new(JwtConfig::new(key(&Rsa))).unwrap();
    assert_eq!(engine.verify(CONFUSED, 0).unwrap_err().to_string(), "invalid algorithm");
}

#[test]
fn keys_rotate_also_from_shared_to_pair() {
    let mut config = JwtConfig::new(key(&P256));
    config.algorithm = Some(ES256);
    config.more_verify_keys = vec![
        VerifyKey::shared("older still").unwrap(),
        VerifyKey::shared(SECRET).unwrap(),
        VerifyKey::public(RSA_PUB).unwrap().only(&[RS256]).unwrap(),
    ];
    let engine = JwtEngine::new(config).unwrap();
    for (algorithm, kind, token) in tokens() {
        let good = matches!(kind, Shared) || matches!(algorithm, ES256 | RS256);
        assert_eq!(engine.verify(token, 0).is_ok(), good, "{algorithm}");
    }
    let mut claims = claims(r#"{"username":"carol"}"#);
    let token = engine.sign(&mut claims, None, NOW).unwrap();
    assert!(engine.verify(&token, NOW).is_ok());
    assert!(shared().verify(&token, NOW).is_err(), "the old server does not know the new key");
}
