//! Scenes as pixels.

use image::RgbImage;
use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Transform};

use super::{Background, Color, Object, SIDE, Scene, Shape};

/// The image, `SIDE` pixels square.
pub fn draw(scene: &Scene) -> RgbImage {
    let mut canvas = Pixmap::new(SIDE, SIDE).expect("the side is not zero");
    let background = paint(background_rgb(scene.background), scene.shade);
    canvas.fill(tiny_skia::Color::from_rgba8(
        background[0],
        background[1],
        background[2],
        255,
    ));
    for object in scene
        .main
        .iter()
        .chain(scene.second.iter().map(|(object, _)| object))
    {
        fill(&mut canvas, object, scene.shade);
    }
    let pixels = canvas.pixels().iter().flat_map(|pixel| {
        let color = pixel.demultiply();
        [color.red(), color.green(), color.blue()]
    });
    RgbImage::from_raw(SIDE, SIDE, pixels.collect()).expect("three bytes a pixel")
}

/// Distance of an object's color from a background's, in RGB.
pub fn contrast(color: Color, background: Background) -> f32 {
    let (a, b) = (color_rgb(color), background_rgb(background));
    let squares = a
        .iter()
        .zip(b)
        .map(|(&a, b)| (f32::from(a) - f32::from(b)).powi(2));
    squares.sum::<f32>().sqrt()
}

fn color_rgb(color: Color) -> [u8; 3] {
    match color {
        Color::Red => [212, 28, 36],
        Color::Green => [40, 168, 52],
        Color::Blue => [34, 80, 220],
        Color::Yellow => [244, 222, 20],
        Color::Orange => [250, 132, 10],
        Color::Purple => [124, 40, 168],
        Color::Pink => [252, 130, 200],
        Color::Brown => [112, 66, 26],
    }
}

fn background_rgb(background: Background) -> [u8; 3] {
    match background {
        Background::White => [244, 244, 244],
        Background::Black => [16, 16, 16],
        Background::Gray => [128, 128, 128],
        Background::Beige => [232, 214, 182],
        Background::Teal => [0, 112, 116],
    }
}

fn paint(rgb: [u8; 3], shade: [i16; 3]) -> [u8; 3] {
    std::array::from_fn(|i| (i16::from(rgb[i]) + shade[i]).clamp(0, 255) as u8)
}

fn fill(canvas: &mut Pixmap, object: &Object, shade: [i16; 3]) {
    let [r, g, b] = paint(color_rgb(object.kind.color), shade);
    let mut paint = Paint {
        anti_alias: true,
        ..Paint::default()
    };
    paint.set_color_rgba8(r, g, b, 255);
    let place = Transform::from_translate(object.x, object.y)
        .pre_rotate(object.tilt)
        .pre_scale(object.radius, object.radius);
    // Even-odd leaves the ring's hole open.
    canvas.fill_path(
        &outline(object.kind.shape),
        &paint,
        FillRule::EvenOdd,
        place,
        None,
    );
}

/// The shape within a circle of radius 1 around the origin.
fn outline(shape: Shape) -> Path {
    let mut path = PathBuilder::new();
    match shape {
        Shape::Circle => path.push_circle(0.0, 0.0, 0.95),
        Shape::Ring => {
            path.push_circle(0.0, 0.0, 0.98);
            path.push_circle(0.0, 0.0, 0.55);
        }
        Shape::Square => {
            path.push_rect(Rect::from_ltrb(-0.74, -0.74, 0.74, 0.74).expect("a rectangle"))
        }
        Shape::Triangle => polygon(&mut path, &[(0.0, -0.95), (0.9, 0.72), (-0.9, 0.72)]),
        Shape::Diamond => polygon(
            &mut path,
            &[(0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)],
        ),
        Shape::Cross => polygon(
            &mut path,
            &[
                (-0.28, -0.9),
                (0.28, -0.9),
                (0.28, -0.28),
                (0.9, -0.28),
                (0.9, 0.28),
                (0.28, 0.28),
                (0.28, 0.9),
                (-0.28, 0.9),
                (-0.28, 0.28),
                (-0.9, 0.28),
                (-0.9, -0.28),
                (-0.28, -0.28),
            ],
        ),
        Shape::Star => {
            let points: Vec<(f32, f32)> = (0..10)
                .map(|i| {
                    let angle = std::f32::consts::PI * (i as f32 / 5.0 - 0.5);
                    let radius = if i % 2 == 0 { 1.0 } else { 0.42 };
                    (radius * angle.cos(), radius * angle.sin())
                })
                .collect();
            polygon(&mut path, &points);
        }
        Shape::Heart => {
            path.move_to(0.0, 0.92);
            path.cubic_to(-1.35, 0.0, -0.85, -1.15, 0.0, -0.42);
            path.cubic_to(0.85, -1.15, 1.35, 0.0, 0.0, 0.92);
            path.close();
        }
    }
    path.finish().expect("no outline is empty")
}

fn polygon(path: &mut PathBuilder, points: &[(f32, f32)]) {
    path.move_to(points[0].0, points[0].1);
    points[1..].iter().for_each(|&(x, y)| path.line_to(x, y));
    path.close();
}
