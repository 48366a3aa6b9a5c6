//! The models that have a word of their own.

/// A captioner's parts, and where each is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Repository of CLIP.
    pub clip: &'static str,
    /// Repository of GPT-2.
    pub gpt2: &'static str,
    /// The mapper.
    pub checkpoint: Checkpoint,
    /// Whether a GPT-2 is known to be in the checkpoint, so that of the repository only sizes and vocabulary are needed.
    pub brings_gpt2: bool,
    /// About as many megabytes to download: of CLIP, of GPT-2 where it is needed, and of the checkpoint, as their numbers of
    /// parameters say. The Hub was not asked.
    pub megabytes: u32,
    /// What its authors say; the Hub's own word for each repository is shown beside it.
    pub license: &'static str,
}

/// Where a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// A file of a repository of the Hub.
    Hub {
        repo: &'static str,
        file: &'static str,
    },
    /// On a page that only a browser can download from.
    Page {
        file: &'static str,
        page: &'static str,
    },
}

/// The sets, as `fetch` lists them.
pub const SETS: [Set; 4] = [
    Set {
        name: "clipcap-coco",
        about: "ClipCap: MLP mapper and tuned GPT-2, trained on COCO, for CLIP ViT-B/32",
        clip: "openai/clip-vit-base-patch32",
        gpt2: "openai-community/gpt2",
        checkpoint: Checkpoint::Hub {
            repo: "akhaliq/CLIP-prefix-captioning-COCO-weights",
            file: "coco_weights.pt",
        },
        brings_gpt2: true,
        megabytes: 1_230,
        license: "MIT (ClipCap, CLIP, GPT-2)",
    },
    Set {
        name: "clipcap-conceptual",
        about: "ClipCap: MLP mapper and tuned GPT-2, trained on Conceptual Captions, for CLIP ViT-B/32",
        clip: "openai/clip-vit-base-patch32",
        gpt2: "openai-community/gpt2",
        checkpoint: Checkpoint::Hub {
            repo: "akhaliq/CLIP-prefix-captioning-conceptual-weights",
            file: "conceptual_weights.pt",
        },
        brings_gpt2: true,
        megabytes: 1_230,
        license: "MIT (ClipCap, CLIP, GPT-2)",
    },
    Set {
        name: "clipcap-transformer",
        about: "ClipCap: transformer mapper and GPT-2 as it was, trained on COCO, for CLIP RN50x4",
        clip: "timm/resnet50x4_clip.openai",
        gpt2: "openai-community/gpt2",
        checkpoint: Checkpoint::Page {
            file: "transformer_weights.pt",
            page: "https://drive.google.com/file/d/1GYPToCqFREwi285wPLhuVExlz7DDUDfJ/view",
        },
        brings_gpt2: true,
        megabytes: 1_490,
        license: "MIT (ClipCap, CLIP, GPT-2)",
    },
    Set {
        name: "capdec",
        about: "CapDec: transformer mapper and tuned GPT-2, trained on COCO's sentences alone, for CLIP RN50x4",
        clip: "timm/resnet50x4_clip.openai",
        gpt2: "openai-community/gpt2",
        checkpoint: Checkpoint::Hub {
            repo: "johko/capdec_015",
            file: "model.pt",
        },
        brings_gpt2: false,
        megabytes: 1_990,
        license: "none stated by CapDec's authors; MIT (CLIP, GPT-2)",
    },
];

/// Short names of repositories.
const ALIASES: [(&str, &str); 9] = [
    ("clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
    ("clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
    ("clip-vit-large-patch14", "openai/clip-vit-large-patch14"),
    (
        "clip-vit-large-patch14-336",
        "openai/clip-vit-large-patch14-336",
    ),
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
];

/// What a name given to `fetch` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Set(&'static Set),
    /// A repository of the Hub, `owner/name`.
    Repo(String),
}

impl Named {
    /// `None` when it is neither a set, nor a short name, nor an id of the Hub.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(set) = SETS.iter().find(|set| set.name == name) {
            return Some(Self::Set(set));
        }
        if let Some((_, id)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Some(Self::Repo(id.to_string()));
        }
        is_repo_id(name).then(|| Self::Repo(name.to_string()))
    }
}

/// Whether a text is `owner/name` with characters that the Hub allows.
pub fn is_repo_id(text: &str) -> bool {
    let valid = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| valid(owner) && valid(name))
}

/// All words, for an error that lists them.
pub fn names() -> String {
    let sets = SETS.iter().map(|set| set.name);
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    sets.chain(aliases).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ids_are_told_apart_and_the_rest_is_refused() {
        assert_eq!(Named::parse("capdec"), Some(Named::Set(&SETS[3])));
        let repo = |id: &str| Some(Named::Repo(id.to_string()));
        assert_eq!(Named::parse("gpt2"), repo("openai-community/gpt2"));
        assert_eq!(Named::parse("me/my.model-1"), repo("me/my.model-1"));
        for wrong in [
            "clipcap", "a/b/c", "/b", "a/", "a/..", "../b", "a/b c", "a/b?x",
        ] {
            assert_eq!(Named::parse(wrong), None, "{wrong}");
        }
        for set in SETS {
            assert!(is_repo_id(set.clip) && is_repo_id(set.gpt2));
        }
    }
}
