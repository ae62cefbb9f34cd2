//! What is in the folder, and what is refused there.

use crate::children::{Child, HOUR, claim, grant, lease, name, told_by};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use token_manager::store::{Claimed, StoreErrorKind, TokenName};
use token_manager::{FileStore, Store};

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder).unwrap()
}

fn granted(store: &FileStore) -> u64 {
    let last = store.inspect(&name("t"), "default").unwrap().granted;
    match claim(store, "a", last, HOUR) {
        Claimed::Granted { generation, .. } => generation,
        other => panic!("{other:?}"),
    }
}

/// Commits a token with a carried secret; returns its generation.
fn bring(store: &FileStore, padding: usize) -> u64 {
    let generation = granted(store);
    store.commit(&name("t"), &lease("a", generation), &grant(generation, padding)).unwrap();
    generation
}

fn stored(store: &FileStore) -> u64 {
    match claim(store, "reader", 0, HOUR) {
        Claimed::Token(stored) => told_by(&stored.value),
        other => panic!("{other:?}"),
    }
}

fn grant_file(folder: &Path) -> PathBuf {
    folder.join("tm.t.t.grant.tkm")
}

#[test]
fn folder_and_files_are_readable_by_this_user_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("made/here");
    bring(&open(&folder), 10);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "a lock, a grant, an egress: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[test]
fn a_folder_that_others_may_write_is_refused_and_so_are_links() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
    let refused = FileStore::open(folder.path()).unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Denied);
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let store = open(folder.path());
    symlink("/dev/null", grant_file(folder.path())).unwrap();
    let refused = store.inspect(&name("t"), "default").unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Denied, "{refused}");
    let missing = FileStore::open(folder.path().join("lock/folder")).unwrap_err();
    assert_eq!(missing.kind(), StoreErrorKind::Unreachable, "{missing}");
}

/// By the numbers of statfs(2).
#[test]
fn file_systems_of_other_hosts_are_refused_and_local_ones_are_not() {
    use token_manager::internals::remote_kind;
    let remote = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997].map(remote_kind);
    assert_eq!(remote, [Some("NFS"), Some("SMB"), Some("SMB"), Some("FUSE"), Some("9P")]);
    let local = [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x794c_7630]; // ext4, btrfs, xfs, tmpfs, overlayfs
    assert_eq!(local.map(remote_kind), [None; 5]);
}

#[test]
fn names_that_are_alike_have_files_of_their_own() {
    let (folder, long) = (tempfile::tempdir().unwrap(), "x".repeat(200));
    let store = open(folder.path());
    let of = |group: &str, grant: &str| TokenName {
        namespace: "tm".into(),
        group: group.into(),
        name: grant.into(),
        grant: grant.into(),
    };
    let names = [
        of("g", "a"),
        of("g", "A"),
        of("g", "%41"),
        of("g.a", "a"),
        of("g", "a.a"),
        of("g", "../a"),
        of("g", "a/b"),
        of("g", "ä"),
        of(&long, &format!("{long}1")),
        of(&long, &format!("{long}2")),
        of("CON", "nul"),
    ];
    for (number, name) in names.iter().enumerate() {
        store.invalidate(name, number as u64 + 1).unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(store.inspect(name, "default").unwrap().invalidated, number as u64 + 1, "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len() + 1);
    assert!(!folder.path().parent().unwrap().join("a.grant.tkm").exists());
}

#[test]
fn tokens_of_any_size_fit_and_a_file_that_has_grown_serves_small_ones_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for padding in [10, 3_000, 20_000, 65_000, 300_000, 10, 70_000, 5, 5, 5] {
        let generation = bring(&store, padding);
        assert_eq!((stored(&store), stored(&open(folder.path()))), (generation, generation));
    }
    let generation = granted(&store);
    let refused = store.commit(&name("t"), &lease("a", generation), &grant(generation, 10 << 20)).unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::NotWritable, "{refused}");
    assert!(stored(&store) < generation, "the last one is still there");
}

#[test]
fn a_disk_that_takes_no_more_is_told_of_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let generation = bring(&open(folder.path()), 10);
    let child = Child::fork(|| {
        // SAFETY: from here on no file of this child can grow, as on a full disk.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: 16 << 10, rlim_max: 16 << 10 };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        let store = open(folder.path());
        let next = granted(&store);
        let refused = store.commit(&name("t"), &lease("a", next), &grant(next, 65_000)).unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::NotWritable, "{refused}");
        assert_eq!(stored(&store), generation, "reads go on");
        // What fits into the file that was made whole needs no room.
        store.commit(&name("t"), &lease("a", next), &grant(next, 100)).unwrap();
        assert_eq!(stored(&store), next);
    });
    assert!(child.wait());
    assert!(stored(&open(folder.path())) > generation);
}

#[test]
fn foreign_newer_and_damaged_files_are_refused_by_name_and_left_as_they_are() {
    let check = |spoil: &dyn Fn(&File), word: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (store, path) = (open(folder.path()), grant_file(folder.path()));
        bring(&store, 10);
        bring(&store, 10);
        spoil(&File::options().write(true).open(&path).unwrap());
        let before = fs::read(&path).unwrap();
        let refusals = [
            store.inspect(&name("t"), "default").unwrap_err(),
            store.invalidate(&name("t"), u64::MAX).unwrap_err(),
            store.subscribe(&name("t")).err().unwrap(),
        ];
        for refused in refusals {
            assert_eq!(refused.kind(), StoreErrorKind::Malformed, "{refused}");
            assert!(
                refused.to_string().contains(word) && refused.to_string().contains("tm.t.t.grant.tkm"),
                "{refused}"
            );
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    };
    check(&|file| file.write_all_at(b"# something else\n", 0).unwrap(), "not written by this library");
    check(&|file| file.write_all_at(&[9], 7).unwrap(), "version 9");
    check(&|file| file.write_all_at(&[0xff; 12 << 10], 512).unwrap(), "damaged");
    // Another token's file under this one's name.
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    bring(&store, 10);
    fs::copy(grant_file(folder.path()), folder.path().join("tm.u.u.grant.tkm")).unwrap();
    let refused = store.inspect(&name("u"), "default").unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Malformed, "{refused}");
}

/// What a machine leaves that goes down between a header and its bytes: the header names another start of the machine.
#[test]
fn what_had_not_reached_the_disk_when_the_power_failed_is_given_up_unless_it_carried_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = (open(folder.path()), grant_file(folder.path()));
    for generation in 1..4 {
        store.invalidate(&name("t"), generation).unwrap();
    }
    let spoil = || {
        let (file, bytes) = (File::options().write(true).open(&path).unwrap(), fs::read(&path).unwrap());
        for at in [0, 128] {
            let mut header: [u8; 80] = bytes[at..at + 80].try_into().unwrap();
            header[56..64].copy_from_slice(&7u64.to_le_bytes());
            let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(0x0100_0000_01b3);
            let words = header[..72].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            let sum = mix(words.fold(0xcbf2_9ce4_8422_2325, mix), 72);
            header[72..].copy_from_slice(&(sum ^ sum >> 32).to_le_bytes());
            file.write_all_at(&header, at as u64).unwrap();
        }
        file.write_all_at(&[0; 12 << 10], 512).unwrap();
    };
    spoil();
    assert_eq!(store.inspect(&name("t"), "default").unwrap().invalidated, 0, "it begins anew");
    let generation = bring(&store, 10);
    assert_eq!(stored(&store), generation);
    spoil();
    let refused = store.inspect(&name("t"), "default").unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Malformed, "{refused}");
}

#[test]
fn a_folder_that_is_removed_while_it_is_used_is_made_anew() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("tokens");
    let store = open(&folder);
    let generation = bring(&store, 10);
    let mut subscription = store.subscribe(&name("t")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(subscription.wait(Duration::from_secs(30)).is_err(), "it is told that its file is gone");
    assert!(bring(&store, 10) > generation);
    assert_eq!(stored(&store), stored(&open(&folder)));
}

#[test]
fn what_nobody_could_ask_for_any_more_is_swept_out_after_a_month() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    bring(&store, 10);
    let over = TokenName { name: "over".into(), grant: "over".into(), ..name("t") };
    store.invalidate(&over, 1).unwrap();
    let is_spent = || !store.inspect(&name("t"), "default").unwrap().budget_spent.is_zero();
    testbed::wait_until("the budget is whole again", || !is_spent());
    let old = std::time::SystemTime::now() - Duration::from_secs(31 * 86_400);
    for file in fs::read_dir(folder.path()).unwrap() {
        File::options().write(true).open(file.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
    open(folder.path());
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    // The token and its carried secret are still of use; what is spent of the budget is over.
    assert_eq!(left, ["lock", "tm.t.t.grant.tkm"]);
}
