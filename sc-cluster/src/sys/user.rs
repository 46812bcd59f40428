//! As which user children run.

use std::{fs, io};

use rustix::process::geteuid;

use crate::options::User;

/// A user and its group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Finds a user, and makes sure that this process may become it.
pub(crate) fn find(user: &User) -> io::Result<Ids> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = look_up(&passwd, user);
    let ids = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such user in /etc/passwd"))?;
    let own = geteuid();
    if own.is_root() || own.as_raw() == ids.uid {
        return Ok(ids);
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root may start processes as another user"))
}

/// A number needs no entry: its group then has the same number.
fn look_up(passwd: &str, user: &User) -> Option<Ids> {
    let entries = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((name, Ids { uid, gid }))
    });
    let mut entries = entries;
    let number = match user {
        User::Id(uid) => Some(*uid),
        User::Name(name) => name.parse().ok(),
    };
    let wanted = |(name, ids): &(&str, Ids)| match user {
        User::Name(wanted) if number.is_none() => name == wanted,
        _ => Some(ids.uid) == number,
    };
    let found = entries.find(wanted).map(|(_, ids)| ids);
    found.or_else(|| number.map(|uid| Ids { uid, gid: uid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:web:/:/bin/false\n";
        let find = |user: User| look_up(passwd, &user).map(|ids| (ids.uid, ids.gid));
        assert_eq!(find(User::Name("web".to_owned())), Some((33, 34)));
        assert_eq!(find(User::Id(33)), Some((33, 34)));
        assert_eq!(find(User::Name("33".to_owned())), Some((33, 34)));
        assert_eq!(find(User::Id(77)), Some((77, 77)));
        assert_eq!(find(User::Name("nobody else".to_owned())), None);
    }
}
