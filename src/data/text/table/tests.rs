use super::*;

fn is_enough(header: &Header) -> bool {
    header.has(&IMAGE) && header.has(&CAPTION)
}

/// Image and captions of each row, or its place and what is wrong with it.
fn rows(text: &str) -> Vec<Result<(String, Vec<String>), String>> {
    let mut rows = open(text.as_bytes(), is_enough).unwrap().unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next_row().unwrap() {
        let read = |fields: Fields| {
            let captions = fields.captions().into_iter();
            let captions = captions.map(|caption| caption.unwrap().to_string());
            let image = fields.image().unwrap().unwrap_or_default();
            (image.to_string(), captions.collect())
        };
        let place = row.place;
        found.push(
            row.fields
                .map(read)
                .map_err(|error| format!("{place}: {error}")),
        );
    }
    found
}

fn captions(text: &str) -> Vec<String> {
    let captions = |row: Result<(String, Vec<String>), String>| row.unwrap().1;
    rows(text).into_iter().flat_map(captions).collect()
}

#[test]
fn a_table_reads_the_same_whatever_is_between_its_cells() {
    for (text, delimiter) in [
        (
            "file_name,caption\na.png,\"A dog, running; fast.\"\nb.png,Two.\n",
            ',',
        ),
        (
            "file_name;caption\r\na.png;\"A dog, running; fast.\"\r\nb.png;Two.\r\n",
            ';',
        ),
        (
            "File Name|Caption\na.png| A dog, running; fast.\nb.png |Two.",
            '|',
        ),
        (
            "\"File-Name\"\t\"caption\"\r\"a.png\"\tA dog, running; fast.\rb.png\tTwo.",
            '\t',
        ),
        (
            "sep=:\nimage:caption\na.png:\"A dog, running; fast.\"\nb.png:Two.",
            ':',
        ),
        ("\"sep=;\"\n\nimage,caption\n", ' '),
    ] {
        if delimiter == ' ' {
            assert!(open(text.as_bytes(), is_enough).unwrap().is_none());
            continue;
        }
        assert_eq!(captions(text), ["A dog, running; fast.", "Two."], "{text}");
    }
    assert!(open(&b"name,what\n"[..], is_enough).unwrap().is_none());
}

#[test]
fn a_stray_quote_costs_its_own_row_alone() {
    let row = |number: usize| format!("{number:03}.png,Caption {number}.\n");
    let mut text: String = "image,caption\n".to_string() + &(0..20).map(row).collect::<String>();
    text = text
        .replace("004.png,", "004.png,\"")
        .replace("tion 12.", "tion 12.\"");
    let found = rows(&text);
    assert_eq!(found.len(), 20);
    let bad: Vec<_> = found.iter().filter_map(|row| row.as_ref().err()).collect();
    assert!(
        matches!(bad[..], [error] if error.contains("row 6: opens a quote that is not closed"))
    );
    assert_eq!(found[12].as_ref().unwrap().1, ["Caption 12.\""]);

    let last = rows("image,caption\na.png,A dog.\nb.png,\"Two.");
    assert!(last[0].is_ok() && last[1].is_err());
    let next = rows("caption,image\n\"A dog.,a.png\nTwo.\",b.png\nThree.,c.png");
    assert_eq!(next.len(), 3, "{next:?}");
}

#[test]
fn a_cell_may_go_on_over_lines_and_rows_after_it_say_where_they_stand() {
    let text = "image,caption\na.png,\"A dog,\nrunning, fast\n\nand \"\"far\"\".\"\nb.png,Two.\nc.png,\"Three\n";
    let found = rows(text);
    assert_eq!(
        found[0].as_ref().unwrap().1,
        ["A dog,\nrunning, fast\n\nand \"far\"."]
    );
    assert_eq!(found[1].as_ref().unwrap().1, ["Two."]);
    let error = found[2].as_ref().unwrap_err();
    assert!(
        error.starts_with("row 4 (line 7): opens a quote"),
        "{error}"
    );
    let before = "caption,image\n\"A dog,\nrunning\",a.png\nTwo.,b.png\n";
    assert_eq!(captions(before), ["A dog,\nrunning", "Two."]);
}

#[test]
fn quotes_within_cells_are_read_as_they_were_meant() {
    for (cell, expected) in [
        (r#""One ""dog"".""#, r#"One "dog"."#),
        (r#""a sign \"stop\", red""#, r#"a sign "stop", red"#),
        (r#""a sign \"stop\"""#, r#"a sign "stop""#),
        (r#""Stop" it says"#, r#""Stop" it says"#),
        (r#"6" of pipe"#, r#"6" of pipe"#),
        (r"A dog\, running", "A dog, running"),
    ] {
        assert_eq!(
            captions(&format!("image,caption\na.png,{cell}\n")),
            [expected]
        );
    }
    for (cell, expected) in [
        (r#""Stop" it says"#, r#""Stop" it says"#),
        (r#""6 ft"#, r#""6 ft"#),
        ("\"A\tdog \"\"x\"\"\"", "A\tdog \"x\""),
        ("\"A dog.\"", "A dog."),
        ("\"A dog\nruns.\"", "A dog\nruns."),
    ] {
        let text = format!("image\tcaption\na.png\t{cell}\nb.png\tTwo.\n");
        assert_eq!(captions(&text), [expected, "Two."]);
    }
}

#[test]
fn commas_in_the_last_column_belong_to_the_caption_and_elsewhere_are_named() {
    let text = "image,caption\na.png,A dog, running, fast.\nb.png,Two.,,\n,,\n\nc.png\n";
    let found = rows(text);
    assert_eq!(found[0].as_ref().unwrap().1, ["A dog, running, fast."]);
    assert_eq!(found[1].as_ref().unwrap().1, ["Two."]);
    assert_eq!(found[2].as_ref().unwrap(), &("c.png".into(), Vec::new()));
    assert_eq!(found.len(), 3, "empty rows are none");
    let found = rows("image,caption,split\na.png,A dog, running,train\n");
    let error = found[0].as_ref().unwrap_err();
    assert!(
        error.contains("row 2: has 4 cells and the header 3"),
        "{error}"
    );
    assert!(rows("image,caption\na.png,\"A dog\",\"two\"\n")[0].is_err());
}

#[test]
fn several_captions_are_taken_from_columns_and_lists() {
    let columns = "image,caption_1,caption_2,caption_3\na.png,One.,,Three.\n";
    assert_eq!(captions(columns), ["One.", "Three."]);
    let list = "raw,filename\n\"[\"\"One.\"\", \"\"T\\\"\"wo.\"\"]\",a.png\n";
    assert_eq!(captions(list), ["One.", "T\"wo."]);
    let python = &rows("image|caption\na.png|['One.', 'Two.']\n")[0];
    assert!(python.as_ref().unwrap_err().contains("json.dumps"));
    assert_eq!(captions("image|caption\na.png|[a dog]\n"), ["[a dog]"]);
}

#[test]
fn a_row_that_is_no_text_is_named() {
    let mut rows = open(
        &b"image,caption\na.png,caf\xe9\nb.png,Two.\n"[..],
        is_enough,
    )
    .unwrap()
    .unwrap();
    let bad = rows.next_row().unwrap().unwrap();
    assert_eq!(bad.place, "row 2");
    assert!(bad.fields.unwrap_err().contains("Windows-1252"));
    assert!(rows.next_row().unwrap().unwrap().fields.is_ok());
    assert!(rows.next_row().unwrap().is_none());
}
