//! The prompt that shows GPT-2 the captions of similar images: SmallCap's (Ramos et al. 2023,
//! <https://arxiv.org/abs/2209.15323>; `src/template.txt` and `src/utils.py` of RitaRamo/smallcap at 19cc4f4).

use anyhow::{Result, bail};

use crate::tokenizer::Tokenizer;

/// Tokens of a retrieved caption at most: SmallCap's datastore leaves longer ones out.
const LONGEST: usize = 25;

/// What stands before a caption, the space at its end included. The captions lose the full stops at their ends, as SmallCap's
/// have none, and the last gets one.
pub fn prompt(captions: &[&str]) -> String {
    let bare: Vec<&str> = (captions.iter())
        .map(|caption| caption.trim().trim_end_matches(['.', ' ']))
        .collect();
    format!(
        "Similar images show\n\n{}.\n\nThis image shows ",
        bare.join("\n\n")
    )
}

/// The tokens of the prompt with the first `count` captions that are not too long, or as many as fit `room`.
///
/// # Errors
/// When there are captions, and not even one fits.
pub fn tokens(
    tokenizer: &Tokenizer,
    captions: &[&str],
    count: usize,
    room: usize,
) -> Result<Vec<u32>> {
    let mut short = Vec::with_capacity(count);
    for &caption in captions {
        if short.len() == count {
            break;
        }
        if tokenizer.encode(caption)?.len() <= LONGEST {
            short.push(caption);
        }
    }
    let mut needed = 0;
    while !short.is_empty() {
        let tokens = tokenizer.encode(&prompt(&short))?;
        if tokens.len() <= room {
            return Ok(tokens);
        }
        needed = tokens.len();
        short.pop();
    }
    if needed > 0 {
        bail!(
            "not even one retrieved caption fits: its prompt has {needed} tokens, and beside the prefix and a caption GPT-2 has room for {room}; use a shorter prefix"
        );
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_smallcaps() {
        // `template.replace('||', '\n\n'.join(captions) + '.')` of `open('template.txt').read().strip() + ' '`.
        assert_eq!(
            prompt(&["a dog runs", "two dogs on grass"]),
            "Similar images show\n\na dog runs\n\ntwo dogs on grass.\n\nThis image shows "
        );
        assert_eq!(
            prompt(&["A dog runs. "]),
            "Similar images show\n\nA dog runs.\n\nThis image shows "
        );
    }
}
