//! Images of data sets that cannot be read are named and left out, up to a share, in every command.

use crate::common::image_files::{cut, heic, jpeg, panicking_tiff, png, write};
use crate::common::place::{Place, fails_with, stderr, stdout};

/// A folder a class with twelve images each.
fn write_classes(place: &Place) {
    for (class, name) in ["red", "blue"].into_iter().enumerate() {
        for n in 0..12 {
            let path = place.path(&format!("classes/{name}/{n:02}.png"));
            write(&path, &png(n + 100 * class as u32));
        }
    }
}

#[test]
fn classes_are_probed_without_the_images_that_cannot_be_read() {
    let place = Place::new();
    write_classes(&place);
    write(&place.path("classes/red/half.jpg"), &cut(jpeg(1)));
    write(&place.path("classes/blue/.hidden.png"), b"no image");
    write(&place.path("classes/.ipynb_checkpoints/00.png"), &png(1));
    write(&place.path("classes/blue/tiles.tif"), &panicking_tiff());
    let args = "probe --encoder model/tiny --device cpu --data classes --eval knn --neighbors 3";
    let args: Vec<&str> = args.split(' ').collect();
    let output = place.run(&args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("skipped classes/red/half.jpg: is damaged"),
        "{text}"
    );
    assert!(text.contains("tiles.tif: is damaged"), "{text}");
    assert!(
        !text.contains("hidden") && !text.contains("panicked"),
        "{text}"
    );
    for n in 0..4 {
        write(&place.path(&format!("classes/red/{n}.heic")), &heic());
    }
    fails_with(
        &place.run(&args),
        &["cannot be read, more than 10%", "classes"],
    );
}

#[test]
fn data_sets_are_trained_on_without_the_images_that_cannot_be_read() {
    let place = Place::new();
    for n in 0..24 {
        write(&place.path(&format!("photos/{n:02}.png")), &png(n));
        write(&place.path(&format!("photos/{n:02}.txt")), b"A red circle.");
    }
    for (name, bytes) in [("tiles.tif", panicking_tiff()), ("half.jpg", cut(jpeg(1)))] {
        let path = place.path("photos").join(name);
        write(&path, &bytes);
        write(&path.with_extension("txt"), b"A blue star.");
    }
    let gap = "gap --model model/tiny --device cpu --data photos";
    let output = place.run(&gap.split(' ').collect::<Vec<_>>());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for name in ["skipped photos/tiles.tif: ", "skipped photos/half.jpg: "] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert!(
        stdout(&output).starts_with("24 images, 24 captions"),
        "{}",
        stdout(&output)
    );
    let truncated = [
        &gap.split(' ').collect::<Vec<_>>()[..],
        &["--allow-truncated"],
    ]
    .concat();
    let output = place.run(&truncated);
    assert!(
        stdout(&output).starts_with("25 images, 25 captions"),
        "{}",
        stdout(&output)
    );
}
