use std::fs;

use super::*;

/// A folder with files of these names, and what names in it stand for, relative to it.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        Self(folder)
    }

    fn results(
        &self,
        named: &[&str],
        recursive: bool,
        list: &str,
    ) -> Vec<Result<Input, InputError>> {
        let named = named
            .iter()
            .map(|&name| match name {
                "-" => PathBuf::from(name),
                name => self.0.path().join(name),
            })
            .collect();
        let list = list.replace('@', self.0.path().to_str().unwrap());
        let expansion = Expansion {
            recursive,
            allow_urls: false,
        };
        let list = std::io::Cursor::new(list);
        expand(named, expansion, list, &OtherFiles::default()).collect()
    }

    fn found(&self, named: &[&str], recursive: bool, list: &str) -> Vec<String> {
        let results = self.results(named, recursive, list);
        let relative = |path: &Path| {
            let path = path.strip_prefix(self.0.path()).unwrap();
            path.display().to_string().replace('\\', "/")
        };
        results
            .into_iter()
            .map(|result| relative(&result.unwrap().path))
            .collect()
    }
}

const NAMES: [&str; 7] = [
    "b.JPG",
    "a.png",
    "notes.txt",
    ".hidden.png",
    "sub/c.webp",
    "sub/deep/d.gif",
    ".cache/e.png",
];

#[test]
fn a_folder_stands_for_its_images_by_name_and_subfolders_come_after() {
    let tree = Tree::new(&NAMES);
    assert_eq!(tree.found(&[""], false, ""), ["a.png", "b.JPG"]);
    assert_eq!(
        tree.found(&[""], true, ""),
        ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.gif"]
    );
    let inputs = tree.results(&["sub"], true, "");
    for input in inputs {
        assert_eq!(input.unwrap().root, Some(tree.0.path().join("sub")));
    }
}

#[test]
fn a_file_that_is_named_is_taken_whatever_it_is_called() {
    let tree = Tree::new(&NAMES);
    assert_eq!(
        tree.found(&["notes.txt", "missing.png"], false, ""),
        ["notes.txt", "missing.png"]
    );
}

#[test]
fn patterns_stand_for_the_files_that_match() {
    let tree = Tree::new(&NAMES);
    assert_eq!(tree.found(&["*.png"], false, ""), ["a.png"]);
    assert_eq!(tree.found(&["s*/c.*"], false, ""), ["sub/c.webp"]);
    assert_eq!(tree.found(&["**/*.png"], false, ""), ["a.png"]);
    assert_eq!(tree.found(&["sub/**/d.gif"], false, ""), ["sub/deep/d.gif"]);
    assert_eq!(
        tree.found(&["sub/**"], false, ""),
        ["sub/c.webp", "sub/deep/d.gif"]
    );
    assert_eq!(
        tree.found(&["**/*.[gw]*"], false, ""),
        ["sub/c.webp", "sub/deep/d.gif"]
    );
    let inputs = tree.results(&["sub/*/*.gif"], false, "");
    assert_eq!(
        inputs[0].as_ref().unwrap().root,
        Some(tree.0.path().join("sub"))
    );
    let error = tree.results(&["*.bmp"], false, "").remove(0).unwrap_err();
    assert!(error.to_string().ends_with("matches it as a pattern"));
    let error = tree.results(&["a***b"], false, "").remove(0).unwrap_err();
    assert!(error.to_string().contains("is not a pattern"), "{error}");
}

#[test]
fn a_file_whose_name_looks_like_a_pattern_is_the_file() {
    let tree = Tree::new(&["[1].png", "1.png"]);
    assert_eq!(tree.found(&["[1].png"], false, ""), ["[1].png"]);
}

#[test]
fn a_list_has_files_and_folders_one_a_line() {
    let tree = Tree::new(&NAMES);
    let list = "@/a.png\r\n\n@/sub\n@/last.png";
    assert_eq!(
        tree.found(&["b.JPG", "-", "-"], false, list),
        ["b.JPG", "a.png", "sub/c.webp", "last.png"]
    );
}

#[test]
fn a_folder_without_images_is_an_error_that_says_so() {
    let tree = Tree::new(&["only/notes.txt", "only/deep/a.png"]);
    let error = tree.results(&["only"], false, "").remove(0).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("has no images") && text.contains("--recursive"),
        "{text}"
    );
    assert_eq!(error.path(), tree.0.path().join("only"));
}

#[test]
fn an_address_is_an_error_until_it_is_allowed() {
    let named = vec![PathBuf::from("HTTPS://example.org/a[1].png")];
    let list = std::io::empty();
    let found = |allow_urls| {
        let expansion = Expansion {
            recursive: false,
            allow_urls,
        };
        expand(named.clone(), expansion, list, &OtherFiles::default()).collect::<Vec<_>>()
    };
    let error = found(false).remove(0).unwrap_err();
    assert!(error.to_string().contains("--allow-urls"), "{error}");
    let input = found(true).remove(0).unwrap();
    assert!(matches!(input.content, Content::Url(_)));
}

#[test]
#[cfg(unix)]
fn links_in_circles_come_to_an_end() {
    let tree = Tree::new(&["sub/a.png"]);
    std::os::unix::fs::symlink(tree.0.path(), tree.0.path().join("sub/up")).unwrap();
    assert_eq!(tree.found(&[""], true, ""), ["sub/a.png"]);
}
