//! Scenes as sentences, and sentences as what they say of a scene: both by the same templates.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Background, Color, Kind, Relation, Scene, Shape, Size};

/// First letters before which "a" is "an".
const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
/// What is said of one object. A sentence that says that nothing else is there ends so, or says "alone".
const OF_ONE: [&str; 7] = [
    "A {size} {main} on a {ground} background.",
    "There is a {main} in the image.",
    "A {size} {main} stands alone on {ground}.",
    "The image shows a {size} {main}.",
    "One {size} {main} and nothing else.",
    "A single {main} against a {ground} background.",
    "This is a {main} on {ground}.",
];
/// What is said of several objects of a kind.
const OF_SEVERAL: [&str; 6] = [
    "{number} {size} {mains} on a {ground} background.",
    "There are {number} {mains} in the image.",
    "The image shows {number} {size} {mains}.",
    "{number} {mains} and nothing else.",
    "A group of {number} {mains} against a {ground} background.",
    "These are {number} {mains} on {ground}.",
];
/// What is said of two objects of different kinds.
const OF_TWO_KINDS: [&str; 6] = [
    "A {size} {main} {place} a {its-size} {other}.",
    "There is a {main} {place} a {other}.",
    "A {main} and a {other} on a {ground} background.",
    "The {size} {main} is {place} the {other}.",
    "A {size} {main} with a {its-size} {other} {opposite}.",
    "The image shows a {size} {main} and a {its-size} {other}.",
];

/// Five different captions of a scene. Each names the main object's color and shape, and names them first.
pub fn captions(scene: &Scene, rng: &mut ChaCha8Rng) -> [String; 5] {
    let mut templates = match (&scene.second, scene.main.len()) {
        (Some(_), _) => OF_TWO_KINDS.to_vec(),
        (None, 1) => OF_ONE.to_vec(),
        (None, _) => OF_SEVERAL.to_vec(),
    };
    templates.shuffle(rng);
    std::array::from_fn(|i| fill(templates[i], scene))
}

/// The sentence that a template makes of a scene.
fn fill(template: &str, scene: &Scene) -> String {
    let second = scene.second.map(|(object, _)| object.kind);
    let relation = scene.second.map(|(_, relation)| relation);
    let mut words: Vec<String> = Vec::new();
    for part in template.trim_end_matches('.').split(' ') {
        let text = match part {
            "{size}" => size_word(scene.size).to_string(),
            "{its-size}" => size_word(Size::Small).to_string(),
            "{main}" => noun(scene.kind()),
            "{mains}" => plural(&noun(scene.kind())),
            "{other}" => second.map(noun).unwrap_or_default(),
            "{ground}" => background_word(scene.background).to_string(),
            "{number}" => number_word(scene.main.len()).to_string(),
            "{place}" => relation.map_or("", place_words).to_string(),
            "{opposite}" => relation.map_or("", opposite_words).to_string(),
            word => word.to_string(),
        };
        match words.last_mut() {
            Some(article) if article.eq_ignore_ascii_case("a") && text.starts_with(VOWELS) => {
                article.push('n');
            }
            _ => {}
        }
        words.push(text);
    }
    capital(&words.join(" ")) + "."
}

/// What a caption says of a scene, told by the template that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Shape and color of what is named first, and how many there are of it.
    pub main: Kind,
    pub number: usize,
    pub size: Option<Size>,
    /// What is named beside it, and its size.
    pub other: Option<(Kind, Option<Size>)>,
    /// Where the first is, seen from the other.
    pub relation: Option<Relation>,
    pub background: Option<Background>,
    /// Whether nothing else is said to be there.
    pub alone: bool,
}

/// What a caption says; `None` when it is no sentence that a scene is put into.
pub fn parse(caption: &str) -> Option<Facts> {
    let caption = caption.trim().strip_suffix('.')?.to_lowercase();
    let words: Vec<&str> = caption
        .split_whitespace()
        .map(|word| if word == "an" { "a" } else { word })
        .collect();
    let mut templates = OF_ONE.iter().chain(&OF_SEVERAL).chain(&OF_TWO_KINDS);
    templates.find_map(|template| Reader { words: &words }.facts(template))
}

/// The words of a caption that are not read yet.
struct Reader<'a> {
    words: &'a [&'a str],
}

impl Reader<'_> {
    /// What the words say if they follow a template to their end.
    fn facts(mut self, template: &str) -> Option<Facts> {
        let mut main = None;
        let mut number = 1;
        let (mut size, mut other, mut its_size) = (None, None, None);
        let (mut relation, mut background) = (None, None);
        for part in template.trim_end_matches('.').split(' ') {
            match part {
                "{size}" => size = Some(self.one_of(&Size::ALL, size_word)?),
                "{its-size}" => its_size = Some(self.one_of(&Size::ALL, size_word)?),
                "{main}" => main = Some(self.kind(false)?),
                "{mains}" => main = Some(self.kind(true)?),
                "{other}" => other = Some(self.kind(false)?),
                "{ground}" => background = Some(self.one_of(&Background::ALL, background_word)?),
                "{number}" => number = self.one_of(&[2, 3], number_word)?,
                "{place}" => relation = Some(self.one_of(&Relation::ALL, place_words)?),
                "{opposite}" => relation = Some(self.one_of(&Relation::ALL, opposite_words)?),
                word => self.take(&word.to_lowercase())?,
            }
        }
        self.words.is_empty().then_some(Facts {
            main: main?,
            number,
            size,
            other: other.map(|kind| (kind, its_size)),
            relation,
            background,
            alone: template.contains("alone") || template.contains("nothing else"),
        })
    }

    /// Reads exactly these words.
    fn take(&mut self, phrase: &str) -> Option<()> {
        for word in phrase.split(' ') {
            let (first, rest) = self.words.split_first()?;
            if *first != word {
                return None;
            }
            self.words = rest;
        }
        Some(())
    }

    /// Reads the words of one of these values.
    fn one_of<T: Copy>(&mut self, values: &[T], words: fn(T) -> &'static str) -> Option<T> {
        let all = self.words;
        values.iter().copied().find(|&value| {
            self.words = all;
            self.take(words(value)).is_some()
        })
    }

    /// Reads a color and a shape.
    fn kind(&mut self, several: bool) -> Option<Kind> {
        let color = self.one_of(&Color::ALL, color_word)?;
        let (first, rest) = self.words.split_first()?;
        let shape = Shape::ALL.into_iter().find(|&shape| match several {
            true => plural(shape_word(shape)) == *first,
            false => shape_word(shape) == *first,
        })?;
        self.words = rest;
        Some(Kind { shape, color })
    }
}

fn noun(kind: Kind) -> String {
    format!("{} {}", color_word(kind.color), shape_word(kind.shape))
}

fn capital(phrase: &str) -> String {
    let (first, rest) = phrase.split_at(1);
    first.to_uppercase() + rest
}

fn number_word(number: usize) -> &'static str {
    match number {
        2 => "two",
        _ => "three",
    }
}

/// Where the main object is, seen from the second.
fn place_words(relation: Relation) -> &'static str {
    match relation {
        Relation::LeftOf => "to the left of",
        Relation::RightOf => "to the right of",
        Relation::Above => "above",
        Relation::Below => "below",
    }
}

/// Where the second object is, seen from the main one.
fn opposite_words(relation: Relation) -> &'static str {
    match relation {
        Relation::LeftOf => "on its right",
        Relation::RightOf => "on its left",
        Relation::Above => "below it",
        Relation::Below => "above it",
    }
}

fn shape_word(shape: Shape) -> &'static str {
    match shape {
        Shape::Circle => "circle",
        Shape::Square => "square",
        Shape::Triangle => "triangle",
        Shape::Star => "star",
        Shape::Heart => "heart",
        Shape::Cross => "cross",
        Shape::Ring => "ring",
        Shape::Diamond => "diamond",
    }
}

fn color_word(color: Color) -> &'static str {
    match color {
        Color::Red => "red",
        Color::Green => "green",
        Color::Blue => "blue",
        Color::Yellow => "yellow",
        Color::Orange => "orange",
        Color::Purple => "purple",
        Color::Pink => "pink",
        Color::Brown => "brown",
    }
}

fn background_word(background: Background) -> &'static str {
    match background {
        Background::White => "white",
        Background::Black => "black",
        Background::Gray => "gray",
        Background::Beige => "beige",
        Background::Teal => "teal",
    }
}

fn size_word(size: Size) -> &'static str {
    match size {
        Size::Small => "small",
        Size::Large => "large",
    }
}

/// Whether the first object that a caption names has this color and shape.
pub fn mentions(caption: &str, kind: Kind) -> bool {
    let words: Vec<String> = caption
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let color = words
        .iter()
        .position(|word| Color::ALL.iter().any(|&color| color_word(color) == word));
    let Some(color) = color else {
        return false;
    };
    let shape = words[color..].iter().find_map(|word| {
        Shape::ALL.into_iter().find(|&shape| {
            let singular = shape_word(shape);
            word == singular || *word == plural(singular)
        })
    });
    words[color] == color_word(kind.color) && shape == Some(kind.shape)
}

fn plural(singular: &str) -> String {
    let ending = if singular.ends_with('s') { "es" } else { "s" };
    format!("{singular}{ending}")
}

#[cfg(test)]
mod tests;
