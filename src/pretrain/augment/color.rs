//! Changes of color, as torchvision's `adjust_*` make them on tensors of float32 values (`_functional_tensor.py`, 0.29).

use super::Planes;

/// Scales the values.
pub fn adjust_brightness(view: &mut Planes, factor: f32) {
    view.map(|pixel| pixel.map(|value| blend(value, 0.0, factor)));
}

/// Scales the distance from the mean of the gray image.
pub fn adjust_contrast(view: &mut Planes, factor: f32) {
    let plane = view.side * view.side;
    let sum: f64 = (0..plane)
        .map(|i| {
            let pixel = [0, 1, 2].map(|channel| view.values[channel * plane + i]);
            f64::from(gray(pixel))
        })
        .sum();
    let mean = (sum / plane as f64) as f32;
    view.map(|pixel| pixel.map(|value| blend(value, mean, factor)));
}

/// Scales the distance from the pixel's own gray.
pub fn adjust_saturation(view: &mut Planes, factor: f32) {
    view.map(|pixel| {
        let gray = gray(pixel);
        pixel.map(|value| blend(value, gray, factor))
    });
}

/// Turns the hue by a share of the circle, from -0.5 to 0.5.
pub fn adjust_hue(view: &mut Planes, shift: f32) {
    view.map(|pixel| {
        let [h, s, v] = to_hsv(pixel);
        to_rgb([(h + shift).rem_euclid(1.0), s, v])
    });
}

/// Takes the colors out.
pub fn grayscale(view: &mut Planes) {
    view.map(|pixel| [gray(pixel); 3]);
}

fn blend(value: f32, other: f32, factor: f32) -> f32 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 1.0)
}

fn gray([r, g, b]: [f32; 3]) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

/// Hue, saturation and value, each from 0 to 1.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let range = max - min;
    if range == 0.0 {
        return [0.0, 0.0, max];
    }
    let [rc, gc, bc] = [r, g, b].map(|value| (max - value) / range);
    let sextant = if r == max {
        bc - gc
    } else if g == max {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    [(sextant / 6.0 + 1.0).fract(), range / max, max]
}

fn to_rgb([h, s, v]: [f32; 3]) -> [f32; 3] {
    let sextant = (h * 6.0).floor();
    let f = h * 6.0 - sextant;
    let p = (v * (1.0 - s)).clamp(0.0, 1.0);
    let q = (v * (1.0 - s * f)).clamp(0.0, 1.0);
    let t = (v * (1.0 - s * (1.0 - f))).clamp(0.0, 1.0);
    match sextant as u32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
