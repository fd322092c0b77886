//! `build`: COPY and ADD with all their flags, files by URL and repositories.

use crate::build::{build, context, inside, last, steps, text};
use crate::support::image::digest;
use crate::support::registry::{Registry, Response};
use crate::support::{Engine, has_program, host, skip};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The paths below a folder of an image, sorted.
fn listed(engine: &Engine, image: &str, folder: &str) -> Vec<String> {
    let all = inside(engine, image, &format!("cd {folder}; find . ! -name . | sort"));
    all.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

/// The step of an instruction: whether it was in the cache.
fn is_cached(output: &str, start: &str) -> bool {
    steps(output).into_iter().find(|(_, step)| step.starts_with(start)).expect(start).0
}

const TREE: [(&str, &str); 7] = [
    ("x/a.txt", "a"),
    ("x/b.md", "b"),
    ("x/y/c.txt", "c"),
    ("x/y/z/d.txt", "d"),
    ("home.txt", "home"),
    ("home.png", "png"),
    ("w/a.txt", "other"),
];

#[test]
fn modes_are_changed_by_words_as_by_numbers() {
    let engine = engine!();
    let file = "FROM TINY\nCOPY --chmod=u+x,go= home.txt /one\nCOPY --chmod=a=rX x /tree/\nARG M=g+w\n\
                COPY --chmod=$M home.txt /two\nCOPY --chmod=+x <<EOF /three\n#!/bin/sh\nEOF\n";
    let folder = context(&engine, "modes", &[&TREE[..], &[("Dockerfile", file)]].concat());
    let built = build(&engine, &folder, &[]);
    let script = "stat -c '%a %n' /one /two /three /tree/a.txt /tree/y /tree/y/c.txt";
    assert_eq!(
        inside(&engine, last(&built), script),
        "700 /one\n664 /two\n755 /three\n444 /tree/a.txt\n555 /tree/y\n444 /tree/y/c.txt"
    );
}

#[test]
fn what_is_excluded_is_neither_copied_nor_counts() {
    let engine = engine!();
    let file = "FROM TINY AS base\nCOPY . /all\n\
                FROM TINY\nCOPY --exclude=**/*.txt --exclude=Docker* --exclude=w . /one/\n\
                COPY --exclude=*.txt home* /two/\n\
                COPY --from=base --exclude=y/z --exclude=*.md /all/x /three/\n\
                COPY --exclude=* --exclude=!y x /four/\n\
                COPY --exclude=x/y/** --exclude=*.png . /five/\n";
    let folder = context(&engine, "excluding", &[&TREE[..], &[("Dockerfile", file)]].concat());
    let built = build(&engine, &folder, &[]);
    let of = |folder: &str| listed(&engine, last(&built), folder);
    assert_eq!(of("/one"), ["home.png", "x", "x/b.md", "x/y", "x/y/z"]);
    assert_eq!(of("/two"), ["home.png"]);
    assert_eq!(of("/three"), ["a.txt", "y", "y/c.txt"]);
    assert_eq!(of("/four"), ["y", "y/c.txt", "y/z", "y/z/d.txt"]);
    assert!(!of("/five").iter().any(|path| path.starts_with("x/y/") || path.contains("png")));
    fs::write(folder.join("x/a.txt"), "changed").unwrap();
    let again = build(&engine, &folder, &[]);
    assert!(is_cached(&again, "COPY --exclude=**/*.txt") && !is_cached(&again, "COPY --exclude=x/y/**"));
    // Not even looked at.
    fs::set_permissions(folder.join("w"), fs::Permissions::from_mode(0o000)).unwrap();
    let file = format!("FROM {}\nCOPY --exclude=w . /one/\n", crate::support::tiny());
    let hidden = engine.run_with_input(&["build", "-q", "-f", "-", text(&folder)], file.as_bytes());
    fs::set_permissions(folder.join("w"), fs::Permissions::from_mode(0o755)).unwrap();
    hidden.ok();
}

#[test]
fn parents_are_kept_from_the_pivot_on() {
    let engine = engine!();
    let file = "FROM TINY AS base\nCOPY . /all\nRUN chmod 700 /all/x && chown 5:6 /all/x/y\n\
                FROM TINY\nCOPY --parents ./x/a.txt ./w/a.txt /plain/\n\
                COPY --parents x/./y/*.txt /pivot/\nCOPY --parents x/**/*.txt /deep/\nCOPY --parents x/y /folder/\n\
                COPY --from=base --parents /all/x/y/c.txt /stage/\nCOPY --from=base --parents /all/./x/**/d.txt /swept/\n\
                COPY --from=base --parents /all/*/./y /globbed/\nCOPY --parents nothing*/x /none/\n";
    let folder = context(&engine, "parents", &[&TREE[..], &[("Dockerfile", file)]].concat());
    let built = build(&engine, &folder, &[]);
    let of = |folder: &str| listed(&engine, last(&built), folder);
    assert_eq!(of("/plain"), ["w", "w/a.txt", "x", "x/a.txt"]);
    assert_eq!(of("/pivot"), ["y", "y/c.txt"]);
    assert_eq!(of("/deep"), ["x", "x/a.txt", "x/y", "x/y/c.txt", "x/y/z", "x/y/z/d.txt"]);
    assert_eq!(of("/folder"), ["x", "x/y", "x/y/c.txt", "x/y/z", "x/y/z/d.txt"]);
    assert_eq!(of("/stage"), ["all", "all/x", "all/x/y", "all/x/y/c.txt"]);
    assert_eq!(of("/swept"), ["x", "x/y", "x/y/z", "x/y/z/d.txt"]);
    assert_eq!(of("/globbed"), ["y", "y/c.txt", "y/z", "y/z/d.txt"]);
    // Folders on the way are as they were.
    let script = "stat -c '%a %u:%g' /stage/all/x /stage/all/x/y /swept/x; [ ! -e /none ]";
    assert_eq!(inside(&engine, last(&built), script), "700 0:0\n755 5:6\n700 0:0");
    let missing = format!(
        "FROM {0} AS a\nFROM {0}\nCOPY --from=a --parents /etc/missing /x/\n",
        crate::support::tiny()
    );
    let output = engine.run_with_input(&["build", "-f", "-", text(&folder)], missing.as_bytes());
    output.explains(1, &["Dockerfile:3:1", "/etc/missing"]);
}

#[test]
fn patterns_are_resolved_in_the_stage_that_is_copied_from() {
    let engine = engine!();
    let outside = engine.scratch().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("a.txt"), "of the host").unwrap();
    let file = format!(
        "FROM TINY AS base\nCOPY . /all\nRUN ln -s {0} /all/out && ln -s ../../../../../../../../../../../{0} /all/up && \
         mkdir -p {0} && echo inside > {0}/a.txt\n\
         FROM TINY\nCOPY --from=base /all/*/a.txt /files/\nCOPY --from=base /all/x/y/[cz] /mixed/\n\
         COPY --from=base /all/[ou]*/*.txt /linked/\nCOPY --from=base /all/none*/* /none/\n\
         COPY --from=TINY /etc/r?adm* /image/\n",
        text(&outside)
    );
    let folder = context(&engine, "patterns", &[&TREE[..], &[("Dockerfile", &file)]].concat());
    let built = build(&engine, &folder, &[]);
    let of = |folder: &str| listed(&engine, last(&built), folder);
    // Later ones of a name replace earlier ones, as BuildKit has it: /all/x/a.txt is the last.
    assert_eq!(
        inside(&engine, last(&built), "cat /files/a.txt; cat /linked/a.txt; [ ! -e /none ]"),
        "ainside"
    );
    assert_eq!(of("/mixed"), ["d.txt"]);
    assert_eq!(of("/image"), ["readme"]);
}

#[test]
fn a_linked_layer_does_not_depend_on_what_is_below() {
    let engine = engine!();
    let file = "ARG BASE=one\nFROM TINY AS one\nRUN mkdir /real && ln -s /real /dest && echo 1 > /which\n\
                FROM TINY AS two\nRUN mkdir /real && ln -s /real /dest && echo 2 > /which\n\
                FROM $BASE\nCOPY --link --chown=3 home.txt x /dest/sub/\nADD --link w /dest/\n";
    let folder = context(&engine, "linked", &[&TREE[..], &[("Dockerfile", file)]].concat());
    let one = build(&engine, &folder, &[]);
    let script = "cat /which; [ -d /dest ]; [ ! -L /dest ]; ls /real; stat -c '%u:%g %a' /dest/sub /dest/sub/y; cat /dest/a.txt";
    assert_eq!(inside(&engine, last(&one), script), "1\n3:3 755\n3:3 755\nother");
    let two = build(&engine, &folder, &["--build-arg", "BASE=two"]);
    assert!(is_cached(&two, "COPY --link") && is_cached(&two, "ADD --link"), "{two}");
    assert_eq!(inside(&engine, last(&two), script), "2\n3:3 755\n3:3 755\nother");
    let names = format!("FROM {}\nCOPY --link --chown=daemon home.txt /\n", crate::support::tiny());
    let output = engine.run_with_input(&["build", "-f", "-", text(&folder)], names.as_bytes());
    output.explains(1, &["Dockerfile:2:1", "daemon"]);
}

#[test]
fn archives_of_every_packing_are_unpacked_by_add() {
    let engine = engine!();
    if !has_program("xz") || !has_program("bzip2") {
        return skip("xz or bzip2 is not installed");
    }
    let file = "FROM TINY\nADD a.tar a.tar.gz a.tar.bz2 a.tar.xz /all/\nADD --unpack=false a.tar.xz /kept/\n\
                ADD --chown=7:8 a.tar.bz2 /owned/\nADD plain.xz /plain/\n";
    let folder = context(&engine, "packed", &[("Dockerfile", file)]);
    host(&format!(
        "cd {0}; for k in '' .gz .bz2 .xz; do mkdir in$k; echo $k. > in$k/f; done; printf text > plain; xz plain; \
         tar -cf a.tar in; tar -czf a.tar.gz in.gz; tar -cjf a.tar.bz2 in.bz2; tar -cJf a.tar.xz in.xz",
        text(&folder)
    ));
    let built = build(&engine, &folder, &[]);
    let script = "cat /all/*/f; ls /all /kept /plain; stat -c %u:%g /owned /owned/in.bz2/f";
    assert_eq!(
        inside(&engine, last(&built), script),
        ".bz2.\n.gz.\n.xz.\n.\n/all:\nin\nin.bz2\nin.gz\nin.xz\n\n/kept:\na.tar.xz\n\n/plain:\nplain.xz\n7:8\n7:8"
    );
    // Cut off.
    host(&format!(
        "cd {0}; head -c 1000000 /dev/urandom > in/noise; tar -cJf - in | head -c 500000 > cut.tar.xz",
        text(&folder)
    ));
    let file = format!("FROM {}\nADD cut.tar.xz /x/\n", crate::support::tiny());
    let output = engine.run_with_input(&["build", "-f", "-", text(&folder)], file.as_bytes());
    output.explains(1, &["Dockerfile:2:1", "ADD failed"]);
}

/// A server of files. `/moved` leads to `/file`.
fn server(files: &[(&str, Vec<u8>)]) -> Registry {
    let server = Registry::start();
    let files: Vec<(String, Vec<u8>)> =
        files.iter().map(|(path, body)| ((*path).to_owned(), body.clone())).collect();
    server.rule(move |request| {
        let path = request.path.split('?').next().unwrap();
        if path == "/moved" {
            return Some(Response::new(302, "").header("Location", "/file"));
        }
        let (_, body) = files.iter().find(|(known, _)| known == path)?;
        Some(Response::new(200, body.clone()).header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"))
    });
    server
}

#[test]
fn files_are_added_by_their_url() {
    let engine = engine!();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    archive.append_data(&mut header, "inside", &b""[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let server = server(&[("/file", b"content".to_vec()), ("/a.tar", archive)]);
    let at = |path: &str| format!("http://{}{path}", server.address());
    let sum = digest(b"content");
    let file = format!(
        "FROM TINY\nADD {0} {1} {2} /files/\nADD --chmod=644 --chown=5 {1} /named\nADD --checksum={sum} {0} /\n\
         ADD --unpack {2} /unpacked/\n",
        at("/moved?x=/y"),
        at("/file"),
        at("/a.tar")
    );
    let folder = context(&engine, "urls", &[("Dockerfile", &file)]);
    let built = build(&engine, &folder, &[]);
    let script = "cd /files; stat -c '%n %a %u %Y' *; stat -c '%a %u' /named; cat /moved; ls /unpacked";
    assert_eq!(
        inside(&engine, last(&built), script),
        "a.tar 600 0 784111777\nfile 600 0 784111777\nmoved 600 0 784111777\n644 5\ncontentinside"
    );
    let again = build(&engine, &folder, &[]);
    assert_eq!(last(&again), last(&built));
    assert!(is_cached(&again, "ADD --unpack") && is_cached(&again, "ADD http"), "{again}");
    let fails = |line: &str, words: &[&str]| {
        let file = format!("FROM {}\n{line}\n", crate::support::tiny());
        engine.run_with_input(&["build", "-f", "-", text(&folder)], file.as_bytes()).explains(1, words);
    };
    let other = digest(b"other");
    fails(
        &format!("ADD --checksum={other} {} /", at("/file")),
        &["Dockerfile:2:", "digest mismatch", &sum, &other],
    );
    fails(&format!("ADD --checksum=md5:x {} /", at("/file")), &["Dockerfile:2:", "md5"]);
    fails(&format!("ADD {} /", at("/none")), &["Dockerfile:2:", "cannot fetch", "/none"]);
    fails("ADD http://127.0.0.1:1/x /", &["Dockerfile:2:5", "cannot fetch http://127.0.0.1:1/x"]);
    let left = fs::read_dir(engine.data().join("staging")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn a_file_that_has_not_changed_is_not_fetched_again() {
    let engine = engine!();
    let server = Registry::start();
    let now = Arc::new(Mutex::new(("\"1\"", "first")));
    let served = Arc::clone(&now);
    server.rule(move |request| {
        let (etag, body) =
            if request.path == "/pinned" { ("\"p\"", "first") } else { *served.lock().unwrap() };
        let is_known = request.headers.get("if-none-match").is_some_and(|known| known == etag);
        let answer = if is_known { Response::new(304, "") } else { Response::new(200, body) };
        Some(if request.path == "/weak" {
            answer.header("ETag", "W/\"w\"")
        } else {
            answer.header("ETag", etag)
        })
    });
    let at = |path: &str| format!("http://{}{path}", server.address());
    let sum = digest(b"first");
    let pinned = at("/pinned");
    let file =
        format!("FROM TINY\nADD {} {} /\nADD --checksum={sum} {pinned} /sum/\n", at("/file"), at("/weak"));
    let folder = context(&engine, "unchanged", &[("Dockerfile", &file)]);
    let built = build(&engine, &folder, &[]);
    let again = build(&engine, &folder, &[]);
    assert_eq!(last(&again), last(&built));
    let answers = |path: &str| server.log().iter().filter(|asked| asked.path == path).count();
    let conditional = |path: &str| {
        server
            .log()
            .iter()
            .filter(|asked| asked.path == path && asked.headers.contains_key("if-none-match"))
            .count()
    };
    // What is known to its last bit is not even asked about; a weak validator says nothing of bytes.
    assert_eq!((answers("/file"), conditional("/file")), (2, 1));
    assert_eq!((answers("/weak"), conditional("/weak")), (2, 0));
    assert_eq!(answers("/pinned"), 1);
    // What it was made of is gone: it is fetched after all.
    engine.ok(&["builder", "prune", "-a", "-f", "--filter", "type=regular"]);
    engine.ok(&["rmi", "-f", last(&built)]);
    engine.ok(&["builder", "prune", "-a", "-f", "--filter", "type=regular"]);
    let anew = build(&engine, &folder, &[]);
    assert_eq!(inside(&engine, last(&anew), "cat /file /sum/pinned"), "firstfirst");
    *now.lock().unwrap() = ("\"2\"", "second");
    let changed = build(&engine, &folder, &[]);
    assert_eq!(inside(&engine, last(&changed), "cat /file /weak /sum/pinned"), "secondsecondfirst");
    let asked = answers("/pinned");
    build(&engine, &folder, &["--no-cache"]);
    assert_eq!(answers("/pinned"), asked + 1);
}

/// A repository served over http: on master `file`, `sub/deep` and a link, on the tag `v1` an older `file`. The branch `modules` has a
/// submodule of the same server, `local` one that is a folder of this machine. Gives the server and master's commit.
pub fn repository(engine: &Engine) -> (Registry, String) {
    let top = engine.scratch().join("repository");
    fs::create_dir_all(top.join("work/sub")).unwrap();
    let work = text(&top).to_owned();
    fs::write(top.join("work/sub/deep"), "deep").unwrap();
    symlink("/etc", top.join("work/out")).unwrap();
    let commit = host(&format!(
        "cd {work}/work; export HOME=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b \
         GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; umask 022; exec 3>&1 >/dev/null 2>&1; \
         git -c init.defaultBranch=master init; printf old > file; git add .; git commit -m one; git tag -a v1 -m tag; \
         printf 'FROM scratch\\nCOPY . /\\n' > Dockerfile; printf new > file; git add .; git commit -m two; \
         git clone --bare . ../b.git; for url in {work}/b.git ../b.git; do \
         case $url in /*) git checkout -b local master;; *) git checkout -b modules master;; esac; \
         git -c protocol.file.allow=always submodule add {work}/b.git module; \
         git config -f .gitmodules submodule.module.url $url; git add .; git commit -m three; \
         git submodule deinit -f module; rm -rf .git/modules; done; git checkout master; \
         git clone --bare . ../a.git; for r in a b; do cd ../$r.git; git update-server-info; done; git rev-parse HEAD >&3"
    ));
    let server = Registry::start();
    server.rule(move |request| {
        let path = Path::new(&work).join(request.path.split('?').next()?.trim_start_matches('/'));
        Some(match fs::read(path) {
            Ok(body) => Response::new(200, body),
            Err(_) => Response::new(404, ""),
        })
    });
    (server, commit.trim().to_owned())
}

#[test]
fn repositories_are_added() {
    let mut engine = engine!();
    if !has_program("git") {
        return skip("git is not installed");
    }
    let (server, commit) = repository(&engine);
    let url = format!("http://{}/a.git", server.address());
    let file = format!(
        "FROM TINY\nADD {url} /master/\nADD {url}#v1 /v1/\nADD {url}#master:sub /sub/\nADD {url}#modules /modules/\n\
         ADD {url}?submodules=false&branch=local /without/\n\
         ADD --keep-git-dir --checksum={commit} {url}#{commit} /commit/\n"
    );
    let folder = context(&engine, "repositories", &[("Dockerfile", &file)]);
    let built = build(&engine, &folder, &[]);
    let of = |folder: &str| listed(&engine, last(&built), folder);
    assert_eq!(of("/master"), ["Dockerfile", "file", "out", "sub", "sub/deep"]);
    assert_eq!(of("/sub"), ["deep"]);
    assert!(of("/modules").contains(&"module/sub/deep".to_owned()), "{:?}", of("/modules"));
    assert!(!of("/without").contains(&"module/sub/deep".to_owned()));
    let script = "cat /master/file /v1/file; readlink /master/out; stat -c %a /master/sub /master/file; cat /commit/.git/HEAD";
    assert_eq!(inside(&engine, last(&built), script), format!("newold/etc\n755\n644\n{commit}"));
    let before = server.count("GET", "/objects/");
    let again = build(&engine, &folder, &[]);
    assert_eq!(last(&again), last(&built));
    assert!(is_cached(&again, "ADD --keep-git-dir"), "{again}");
    assert_eq!(server.count("GET", "/objects/"), before, "nothing was fetched that is known");
    let bare = engine.scratch().join("repository/a.git");
    let back = "git update-ref refs/heads/master $(git rev-parse v1^{commit}) && git update-server-info";
    host(&format!("cd {} && {back}", text(&bare)));
    let moved = build(&engine, &folder, &[]);
    assert_eq!(inside(&engine, last(&moved), "cat /master/file"), "old");
    assert!(!is_cached(&moved, &format!("ADD {url} /master/")), "{moved}");
    host(&format!(
        "cd {} && git update-ref refs/heads/master {commit} && git update-server-info",
        text(&bare)
    ));
    let fails = |engine: &Engine, line: &str, words: &[&str]| {
        let file = format!("FROM {}\n{line}\n", crate::support::tiny());
        engine.run_with_input(&["build", "-f", "-", text(&folder)], file.as_bytes()).explains(1, words);
    };
    fails(&engine, &format!("ADD {url}#none /"), &["Dockerfile:2:5", "git cannot fetch", "none"]);
    fails(
        &engine,
        &format!("ADD {url}#local /"),
        &["git cannot fetch the submodules of", "transport 'file' not allowed"],
    );
    fails(&engine, &format!("ADD {url}#master:out /"), &["has no folder \"out\""]);
    fails(&engine, &format!("ADD {url}#master:../work /"), &["has no folder"]);
    fails(&engine, &format!("ADD --checksum=abc {url} /"), &["digest mismatch", "abc"]);
    fails(&engine, &format!("ADD {url}#--upload-pack=x /"), &["no branch, tag or commit"]);
    engine.set("PATH", "/nowhere");
    fails(&engine, &format!("ADD {url} /"), &["git is not installed", "install git"]);
}
