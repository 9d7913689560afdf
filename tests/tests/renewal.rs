//! Certificates and keys that are renewed while sessions come and go: "renewal by rename and by directory symlink under load loses no
//! session". DESIGN 5: "Read at the handshake: a renewal needs no signal."

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use chain_tests::folder::{Folder, Key, NAME};
use chain_tests::{CHAIN, Client, Server, until};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Enough that none is back before a session has opened both of its files.
const VERSIONS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Makes `certs/VERSION.pem` and `certs/VERSION.key`, and gives the certificates.
fn versions(folder: &Folder) -> Vec<Vec<u8>> {
    let issue = |version: &&str| {
        let [certificate, key] = ["pem", "key"].map(|end| format!("{version}.{end}"));
        folder.issue(NAME, Key::P256, &certificate, &key);
        let leaf = CertificateDer::from_pem_file(folder.path("certs").join(certificate));
        leaf.expect("a certificate").to_vec()
    };
    VERSIONS.iter().map(issue).collect()
}

/// Puts a copy of `from` in the place of `to` by rename(2).
fn rename(folder: &Folder, from: &str, to: &str) {
    let certs = folder.path("certs");
    fs::copy(certs.join(from), certs.join("next")).unwrap();
    fs::rename(certs.join("next"), folder.path(to)).unwrap();
}

/// Renews again and again while clients come and go (no session sees more than two renewals), each of which must get TLS with one of these certificates; TLS from the first byte
/// has no 454, and must not have an alert either.
fn no_session_is_lost(server: &Server, good: &[Vec<u8>], mut renew: impl FnMut(&str)) {
    let mut inside = connected(server);
    let served = [const { AtomicUsize::new(0) }; 4];
    let client = &|served: &AtomicUsize| {
        for _ in 0..25 {
            let mut client = connected(server);
            let shown = client.tls().peer_certificates().unwrap()[0].to_vec();
            assert!(good.contains(&shown), "another certificate: {}", server.log());
            client.expect("QUIT", "221");
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> =
            served.iter().map(|served| scope.spawn(move || client(served))).collect();
        let now = || served.iter().map(|served| served.load(Ordering::Relaxed));
        let mut versions = VERSIONS.iter().cycle();
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            renew(versions.next().unwrap());
            let before: Vec<usize> = now().collect();
            until("a session of each", || {
                let on = now().zip(&before).zip(&clients);
                on.into_iter()
                    .all(|((now, before), client)| now > *before || client.is_finished())
                    .then_some(())
            });
        }
    });
    let reply = inside.deliver("Subject: through it all\r\n\r\nhello\r\n");
    assert!(reply.starts_with("250 "), "{}", inside.transcript());
    assert_eq!(server.log().matches("tls ok").count(), 101, "{}", server.log());
    assert!(!server.log().contains("unusable"), "{}", server.log());
}

/// A session that has begun with TLS or has got it by STARTTLS.
fn connected(server: &Server) -> Client {
    let mut client = server.connect();
    match server.chain().contains("-i") {
        true => {
            client.handshake();
            client.reply();
        }
        false => {
            client.reply();
            client.starttls();
        }
    }
    client.expect("EHLO client.test", "250");
    client
}

#[test]
fn a_folder_that_is_swapped_by_its_symbolic_link() {
    let server = Server::new(CHAIN);
    let good = versions(&server.folder);
    let certs = server.folder.path("certs");
    for version in VERSIONS {
        fs::create_dir(certs.join(version)).unwrap();
        for end in ["pem", "key"] {
            let flat = certs.join(format!("{version}.{end}"));
            fs::rename(flat, certs.join(format!("{version}/mx.{end}"))).unwrap();
        }
    }
    symlink(VERSIONS[0], certs.join("live")).unwrap();
    let live = |name: &str| certs.join("live").join(name).to_str().unwrap().to_owned();
    let server = server.env("CERTFILE", &live("mx.pem")).env("KEYFILE", &live("mx.key")).start();
    no_session_is_lost(&server, &good, |version| {
        symlink(version, certs.join("next")).unwrap();
        fs::rename(certs.join("next"), certs.join("live")).unwrap();
    });
}

#[test]
fn two_files_that_are_renamed_one_after_the_other() {
    for (chain, order) in [
        (CHAIN, [("key", "cert.key"), ("pem", "cert.pem")]),
        (CHAIN, [("pem", "cert.pem"), ("key", "cert.key")]),
        ("starttls-wrap -i setuidgid nobody smtpd", [("key", "cert.key"), ("pem", "cert.pem")]),
    ] {
        let server = Server::new(chain);
        let good = versions(&server.folder);
        for (end, to) in order {
            rename(&server.folder, &format!("{}.{end}", VERSIONS[0]), to);
        }
        let server = server.start();
        no_session_is_lost(&server, &good, |version| {
            for (end, to) in order {
                rename(&server.folder, &format!("{version}.{end}"), to);
            }
        });
    }
}

#[test]
fn one_file_with_both() {
    let server = Server::new(CHAIN).without("KEYFILE");
    let good = versions(&server.folder);
    let certs = server.folder.path("certs");
    for version in VERSIONS {
        let both = ["key", "pem"].map(|end| fs::read(certs.join(format!("{version}.{end}"))));
        fs::write(certs.join(version), both.map(Result::unwrap).concat()).unwrap();
    }
    rename(&server.folder, VERSIONS[0], "cert.pem");
    let server = server.start();
    no_session_is_lost(&server, &good, |version| rename(&server.folder, version, "cert.pem"));
}

// certbot keeps archive/NAME/fullchainN.pem and sets each link in live/NAME anew: it is gone for a moment.
#[test]
fn certbots_links_that_are_removed_and_set_anew() {
    let server = Server::new(CHAIN);
    let good = versions(&server.folder);
    let certs = server.folder.path("certs");
    let live = certs.join("live").join(NAME);
    fs::create_dir_all(&live).unwrap();
    let relink = |version: &str| {
        for (end, link) in [("key", "privkey.pem"), ("pem", "fullchain.pem")] {
            fs::remove_file(live.join(link)).ok();
            symlink(Path::new("../..").join(format!("{version}.{end}")), live.join(link)).unwrap();
        }
    };
    relink(VERSIONS[0]);
    let folder = certs.join("live").to_str().unwrap().to_owned();
    // The default pair is another one, and must be shown to nobody here.
    let server = server.env("CERTDIR", &folder).start();
    no_session_is_lost(&server, &good, |version| {
        relink(version);
    });
}

// Between two renames the pair does not belong together: whoever comes then waits for the other file.
#[test]
fn whoever_comes_in_the_middle_of_a_renewal_waits_for_its_end() {
    for (first, then) in [("key", "pem"), ("pem", "key")] {
        let server = Server::new(CHAIN);
        versions(&server.folder);
        let place = |end: &str| format!("cert.{end}");
        let server = server.start();
        rename(&server.folder, &format!("one.{first}"), &place(first));
        let mut client = server.connect();
        client.reply();
        client.send("STARTTLS\r\n");
        server.logged("tls key is being renewed");
        rename(&server.folder, &format!("one.{then}"), &place(then));
        assert!(client.reply().starts_with("220 "), "{}", server.log());
        client.handshake();
        client.expect("QUIT", "221");
        assert!(!server.log().contains("unusable"), "{}", server.log());
    }
}

// The same for a file that is missing for a moment, and for one that is written anew in its place, as acme.sh does.
#[test]
fn whoever_comes_while_a_file_is_missing_or_half_written_waits_for_it() {
    for file in ["cert.key", "cert.pem"] {
        for left in [None, Some(0), Some(200)] {
            let server = Server::new(CHAIN).start();
            let path = server.folder.path(file);
            let whole = fs::read(&path).unwrap();
            match left {
                None => fs::remove_file(&path).unwrap(),
                Some(left) => fs::write(&path, &whole[..left]).unwrap(),
            }
            let mut client = server.connect();
            client.reply();
            client.send("STARTTLS\r\n");
            server.logged("tls key is being renewed");
            fs::write(&path, &whole).unwrap();
            assert!(client.reply().starts_with("220 "), "{file} {left:?}: {}", server.log());
            client.handshake();
            client.expect("QUIT", "221");
        }
    }
}

#[test]
fn a_renewal_of_a_certificate_by_name_is_waited_for() {
    let server = Server::new(CHAIN);
    let good = versions(&server.folder);
    let lego = |end: &str| format!("certs/{NAME}.{end}");
    rename(&server.folder, "one.pem", &lego("crt"));
    rename(&server.folder, "two.key", &lego("key"));
    let certs = server.folder.text("certs");
    let server = server.env("CERTDIR", &certs).start();
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    thread::scope(|scope| {
        scope.spawn(|| {
            server.logged("tls key is being renewed");
            rename(&server.folder, "two.pem", &lego("crt"));
        });
        client.handshake();
    });
    assert_eq!(client.tls().peer_certificates().unwrap()[0].to_vec(), good[1]);
    assert!(!server.log().contains("unusable"), "{}", server.log());
}

// What has been wrong for longer than a renewal takes is not waited for: one line, and the default pair.
#[test]
fn an_old_pair_that_does_not_belong_together_is_not_waited_for() {
    let server = Server::new(CHAIN);
    versions(&server.folder);
    for (from, to) in [("one.pem", "crt"), ("two.key", "key")] {
        rename(&server.folder, from, &format!("certs/{NAME}.{to}"));
    }
    server.folder.age(&["certs", &format!("certs/{NAME}.crt"), &format!("certs/{NAME}.key")]);
    let certs = server.folder.text("certs");
    let server = server.env("CERTDIR", &certs).start();
    let mut client = server.connect();
    client.reply();
    client.starttls();
    client.expect("QUIT", "221");
    server.logged(&format!("tls key for {NAME} unusable: key and certificate: "));
    assert!(!server.log().contains("being renewed"), "{}", server.log());
}
