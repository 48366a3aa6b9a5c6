//! The report as a browser shows it. Without Chromium its structure alone is looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use clipcap::data::coco::ImageId;
use clipcap::datasets::scenes;
use clipcap::evaluate::read::{Candidates, EvaluatedImage, References, join};
use clipcap::evaluate::report::{ReportHead, write};
use clipcap::evaluate::score::{ScoreOptions, score};

/// Images of the report.
const IMAGES: usize = 60;

/// Scenes captioned by each other's sentences.
fn images(folder: &Path) -> Vec<EvaluatedImage> {
    let annotations = scenes::ensure(&folder.join("data"), 3, IMAGES).unwrap();
    let references = References::load(&annotations).unwrap();
    let captions: Vec<String> = references
        .samples()
        .into_iter()
        .map(|sample| sample.references[0].clone())
        .collect();
    let text = std::fs::read_to_string(&annotations).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = file["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["id"].to_string());
    let said = ids.enumerate().map(|(i, id)| {
        let caption = &captions[(i + i % 3) % captions.len()];
        (ImageId::parse(&id), caption.clone())
    });
    let candidates = Candidates::new(Path::new("said"), said.collect());
    join(&candidates, &references, false).unwrap().images
}

fn write_report(folder: &Path) -> PathBuf {
    let evaluation = score(images(folder), &ScoreOptions::default(), Vec::new()).unwrap();
    let path = folder.join("report.html");
    let head = ReportHead {
        title: "Evaluation",
        subtitle: "scenes against each other",
        image_folder: Some(&folder.join("data/images")),
        seed: 1,
    };
    write(&path, &evaluation, &head).unwrap();
    path
}

fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|out| out.status.success())
        })
}

fn browse(browser: &str, folder: &Path, page: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("browser").display()
        ))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn the_report_needs_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(write_report(folder.path())).unwrap();
    for outside in ["http://", "https://", "<link", "src=\"/", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for id in ["best", "worst", "random"] {
        let section = page.split(&format!("id=\"{id}\">")).nth(1).unwrap();
        let section = section.split("</section>").next().unwrap();
        assert_eq!(section.matches("<article").count(), 9, "{id}");
        assert_eq!(
            section
                .matches("<img src=\"data:image/jpeg;base64,")
                .count(),
            9,
            "{id}"
        );
    }
    assert_eq!(page.matches("<svg class=\"histogram\"").count(), 7);
    assert!(!page.contains("{{"), "every part of the template is filled");
}

#[test]
fn a_browser_shows_the_scores_the_images_and_a_table_in_order() {
    let Some(browser) = chromium() else {
        println!("no Chromium here: the page is not looked at");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = write_report(folder.path());
    let dom = browse(
        browser,
        folder.path(),
        &page,
        &["--virtual-time-budget=5000", "--dump-dom"],
    );
    let dom = String::from_utf8(dom).unwrap();
    assert!(
        dom.contains("1 to 50 of 60"),
        "the script ran and filled the table"
    );
    let body = dom
        .split("<tbody>")
        .nth(1)
        .unwrap()
        .split("</tbody>")
        .next()
        .unwrap();
    let cider = last_cells(body);
    assert_eq!(cider.len(), 50);
    assert!(cider.is_sorted_by(|a, b| a >= b), "{cider:?}");

    let image = folder.path().join("page.png");
    let shot = format!("--screenshot={}", image.display());
    browse(
        browser,
        folder.path(),
        &page,
        &[&shot, "--window-size=1000,1600"],
    );
    let image = image::open(&image).unwrap().to_rgb8();
    assert_eq!(image.dimensions(), (1000, 1600));
    let colors: std::collections::HashSet<[u8; 3]> = image.pixels().map(|pixel| pixel.0).collect();
    assert!(
        colors.len() > 200,
        "the page has text, bars and images: {} colors",
        colors.len()
    );
    // The right edge is background: nothing overflows.
    let edge: std::collections::HashSet<[u8; 3]> =
        (0..1600).map(|y| image.get_pixel(999, y).0).collect();
    assert_eq!(edge.len(), 1, "{edge:?}");
}

/// The last number of each table row.
fn last_cells(body: &str) -> Vec<f64> {
    (body.split("</tr>"))
        .filter_map(|row| {
            row.rsplit("<td>")
                .next()?
                .split("</td>")
                .next()?
                .parse()
                .ok()
        })
        .collect()
}
