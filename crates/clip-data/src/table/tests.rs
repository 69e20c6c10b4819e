//! Tables of every format, and each way in which one can be bad.

use std::fs;

use clip_core::Order;
use clip_core::{Plan, Shuffle, UniqueBy};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A file in a folder of its own.
struct Fixture {
    folder: TempDir,
    name: &'static str,
}

impl Fixture {
    fn new(name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        Self { folder, name }
    }

    fn open(&self, options: TableOptions) -> Result<Table, String> {
        Table::open(self.folder.path().join(self.name), options).map_err(|error| self.short(&error))
    }

    fn short(&self, error: &Error) -> String {
        error
            .to_string()
            .replace(&format!("{}/", self.folder.path().display()), "")
    }

    /// Texts of each row, or the message.
    fn texts(&self, options: TableOptions) -> Vec<Result<String, String>> {
        let table = self
            .open(TableOptions {
                roles: Roles::Texts,
                ..options
            })
            .unwrap();
        let text = |index| {
            table
                .get(index)
                .map(|pair| pair.texts.join("+"))
                .map_err(|error| self.short(&error))
        };
        (0..table.rows()).map(text).collect()
    }
}

fn schema(text: &str) -> Option<Schema> {
    Some(Schema::parse(text).unwrap())
}

fn header() -> TableOptions {
    TableOptions {
        header: Some(true),
        ..TableOptions::default()
    }
}

fn ok(texts: &[&str]) -> Vec<Result<String, String>> {
    texts.iter().map(|&text| Ok(text.into())).collect()
}

#[test]
fn tsv_cells_are_raw() {
    let fixture = Fixture::new(
        "a.tsv",
        "\u{feff}a \"red\" shoe\tYWJj\r\n\"blue, hat\tx.png\tsurplus\n\n",
    );
    let table = fixture.open(TableOptions::default()).unwrap();
    assert_eq!(
        (table.rows(), table.columns()),
        (2, ["text".to_owned(), "image".to_owned()].as_slice())
    );
    let pair = table.get(0).unwrap();
    assert_eq!(&*pair.texts[0], "a \"red\" shoe");
    assert_eq!(pair.images, [EncodedImage::Bytes(b"abc".as_slice().into())]);
    assert_eq!((pair.item, pair.weight, pair.origin.row), (None, 1.0, 1));
    let pair = table.get(1).unwrap();
    assert_eq!(&*pair.texts[0], "\"blue, hat");
    assert_eq!(pair.images, [EncodedImage::File(fixture.folder.path().join("x.png"))]);
}

#[test]
fn every_role_has_its_column() {
    let text = "sku\tpic\tbrand\tkinds\tweight\tcaption\ns1\tYWJj\tA\twool| red |wool\t0.5\tone\ns2\tYWJj\t\t\t\ttwo\n";
    let fixture = Fixture::new("a.tsv", text);
    let columns = Columns {
        text: "caption".into(),
        image: "pic".into(),
        item: Some("brand".into()),
        concept: Some("kinds".into()),
        weight: Some("weight".into()),
        id: Some("sku".into()),
    };
    let table = fixture.open(TableOptions { columns, ..header() }).unwrap();
    let [one, two] = [0, 1].map(|row| table.get(row).unwrap());
    assert_eq!(
        (one.key, one.item, one.weight, one.origin.row),
        (Id::of("s1"), Some(Id::of("A")), 0.5, 2)
    );
    let names: Vec<&str> = one.concepts.iter().map(|concept| &*concept.name).collect();
    assert_eq!((names, one.concepts[1].id), (vec!["wool", "red"], Id::of("red")));
    assert_eq!(
        (two.item, two.weight, two.concepts.len(), two.origin.row),
        (None, 1.0, 0, 3)
    );
    assert_eq!(table.cell(1, "caption").unwrap(), "two");
    assert_eq!(table.label(0, "brand").unwrap(), one.item);
    assert_eq!(table.label(1, "brand").unwrap(), None);
}

#[test]
fn keys_hold_on_every_machine() {
    let [one, two] = [(); 2].map(|()| {
        Fixture::new("a.tsv", "x\tYQ==\ny\tYQ==\n")
            .open(TableOptions::default())
            .unwrap()
    });
    assert_eq!(one.get(1).unwrap().key, two.get(1).unwrap().key);
    assert_ne!(one.get(0).unwrap().key, one.get(1).unwrap().key);
}

#[test]
fn csv_is_quoted() {
    let text = "text,image,n\r\n\"a \"\"red\"\", long\nshoe\",YWJj,1\r\nplain \"hat\",x.png,2\r\n";
    let fixture = Fixture::new("a.csv", text);
    let table = fixture.open(TableOptions::default()).unwrap();
    assert_eq!(&*table.get(0).unwrap().texts[0], "a \"red\", long\nshoe");
    assert_eq!(&*table.get(1).unwrap().texts[0], "plain \"hat\"");
    assert_eq!(table.get(1).unwrap().origin.row, 3);
    assert_eq!(table.columns(), ["text", "image", "n"]);
    // With a schema there is no header, unless said so; then the schema's names count.
    let named = TableOptions {
        schema: schema("text:str:1,image:str:1,n:int:1"),
        ..TableOptions::default()
    };
    assert_eq!(fixture.open(named.clone()).unwrap().rows(), 3);
    let table = fixture
        .open(TableOptions {
            header: Some(true),
            ..named
        })
        .unwrap();
    assert_eq!((table.rows(), table.cell(0, "n").unwrap()), (2, "1".to_owned()));
}

#[test]
fn jsonl_rows_are_objects() {
    let text = concat!(
        "{\"text\": [\"one\", \"two\"], \"image\": \"YWJj\", \"item\": 7, \"kinds\": [\"wool\", \"red\"], \"w\": 2}\n",
        "{\"text\": \"red\\nshoe\", \"image\": \"x.png\", \"item\": null, \"kinds\": null, \"w\": null}",
    );
    let fixture = Fixture::new("a.jsonl", text);
    let columns = Columns {
        item: Some("item".into()),
        concept: Some("kinds".into()),
        weight: Some("w".into()),
        ..Columns::default()
    };
    let table = fixture
        .open(TableOptions {
            columns,
            ..TableOptions::default()
        })
        .unwrap();
    let [one, two] = [0, 1].map(|row| table.get(row).unwrap());
    assert_eq!(one.texts.iter().map(|text| &**text).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((one.item, one.weight, one.concepts.len()), (Some(Id::of("7")), 2.0, 2));
    assert_eq!(
        (&*two.texts[0], two.item, two.weight, two.concepts.len()),
        ("red\nshoe", None, 1.0, 0)
    );
    assert_eq!(table.columns(), ["text", "image", "item", "kinds", "w"]);
    assert_eq!(table.label(0, "item").unwrap(), Some(Id::of("7")));
    assert_eq!(
        fixture.short(&table.label(0, "brand").unwrap_err()),
        "a.jsonl: there is no column `brand`; there are: text, image, item, kinds, w; \
         name the column to use, or the columns there are with --schema"
    );
}

#[test]
fn a_folder_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shoes")).unwrap();
    fs::write(folder.path().join("shoes/2.PNG"), "x").unwrap();
    fs::write(folder.path().join("shoes/2.txt"), "\u{feff}red shoe\r\n\n  soft \n").unwrap();
    fs::write(folder.path().join("1.jpg"), "x").unwrap();
    let table = Table::open(folder.path(), TableOptions::default()).unwrap();
    assert_eq!(
        (table.rows(), table.columns()),
        (2, ["text".to_owned(), "image".to_owned()].as_slice())
    );
    let (picture, caption) = (folder.path().join("1.jpg"), folder.path().join("1.txt"));
    assert_eq!(
        table.get(0).unwrap_err().to_string(),
        format!(
            "{}, row 1, column `text`: the picture has no caption; write one to `{}`",
            picture.display(),
            caption.display()
        )
    );
    let pair = table.get(1).unwrap();
    assert_eq!(
        pair.texts.iter().map(|text| &**text).collect::<Vec<_>>(),
        ["red shoe", "soft"]
    );
    assert_eq!(pair.images, [EncodedImage::File(folder.path().join("shoes/2.PNG"))]);
    assert_eq!(pair.key, Id::of("shoes/2.PNG"));
    assert_eq!(table.cell(1, "image").unwrap(), "shoes/2.PNG");
    let images = TableOptions {
        roles: Roles::Images,
        ..TableOptions::default()
    };
    assert!(
        Table::open(folder.path(), images)
            .unwrap()
            .get(0)
            .unwrap()
            .texts
            .is_empty()
    );
}

#[test]
fn one_column_is_enough_for_one_role() {
    let fixture = Fixture::new("texts.tsv", "one\ntwo\n");
    assert_eq!(fixture.texts(TableOptions::default()), ok(&["one", "two"]));
    let fixture = Fixture::new("images.tsv", "YWJj\n");
    let options = TableOptions {
        roles: Roles::Images,
        schema: schema("image:str:1"),
        ..TableOptions::default()
    };
    assert_eq!(fixture.open(options).unwrap().get(0).unwrap().images.len(), 1);
}

#[test]
fn tables_that_cannot_be_opened() {
    let message = |name, bytes: &[u8], options| Fixture::new(name, bytes).open(options).unwrap_err();
    let plain = TableOptions::default;
    for empty in [b"".as_slice(), b"\xef\xbb\xbf", b"\n\r\n"] {
        assert_eq!(
            message("a.tsv", empty, plain()),
            "a.tsv: the table is empty; check the path"
        );
    }
    assert_eq!(
        message("a.csv", b"", plain()),
        "a.csv: the table is empty; check the path"
    );
    assert_eq!(
        message("a.jsonl", b"\n", plain()),
        "a.jsonl: the table is empty; check the path"
    );
    assert_eq!(
        message("a.csv", b"text,image\n", plain()),
        "a.csv: the table has a header and no rows"
    );
    assert_eq!(
        message("a.csv", b"caption,picture\nx,y\n", plain()),
        "a.csv: there is no column `text`; there are: caption, picture; name the one to use with --text-column"
    );
    let columns = Columns {
        item: Some("brand".into()),
        ..Columns::default()
    };
    assert_eq!(
        message("a.tsv", b"x\tYQ\n", TableOptions { columns, ..plain() }),
        "a.tsv: there is no column `brand`; there are: text, image; name the one to use with --item-column"
    );
    assert_eq!(
        message("a.csv", b"text,text\nx,y\n", plain()),
        "a.csv, row 1: two columns are named `text`; rename one"
    );
    assert_eq!(
        message("a.csv", b"text,\xff\nx,y\n", plain()),
        "a.csv, row 1: the header is not UTF-8 from its byte 1 on; save the file as UTF-8"
    );
    let missing = Table::open("no-such-table.tsv", plain()).unwrap_err();
    assert_eq!(missing.kind(), clip_core::Kind::NotFound);
    assert!(
        missing.to_string().starts_with("no-such-table.tsv: cannot read: "),
        "{missing}"
    );
}

/// The message of the second of three rows, and that the other two are whole.
fn second(name: &'static str, bytes: &[u8], options: TableOptions) -> String {
    let fixture = Fixture::new(name, bytes);
    let table = fixture.open(options).unwrap();
    assert_eq!(table.rows(), 3, "{}", String::from_utf8_lossy(bytes));
    for row in [0, 2] {
        table.get(row).unwrap();
    }
    fixture.short(&table.get(1).unwrap_err())
}

#[test]
fn bad_rows_of_tsv() {
    let bad = |bytes: &[u8]| {
        second(
            "a.tsv",
            &[b"x\tYQ\n", bytes, b"\ny\tYQ\n"].concat(),
            TableOptions::default(),
        )
    };
    let short = "a.tsv, row 2, column `image`: the row has 1 cell and needs 2; \
                 check the row, or name the columns there are with --schema";
    assert_eq!(bad(b"only a text"), short);
    assert_eq!(bad(b""), "a.tsv, row 2, column `text`: the text is empty");
    assert_eq!(bad(b" \tYQ"), "a.tsv, row 2, column `text`: the text is empty");
    assert_eq!(
        bad(b"\xe7\xba\tYQ"),
        "a.tsv, row 2, column `text`: the cell is not UTF-8 from its byte 1 on; save the file as UTF-8"
    );
    assert_eq!(bad(b"t\t"), "a.tsv, row 2, column `image`: the image cell is empty");
    assert_eq!(
        bad(b"t\tYWJjZ"),
        "a.tsv, row 2, column `image`: the base64 is truncated: 5 letters make no whole bytes; export the row again"
    );
    assert_eq!(
        bad("t\t没有图片".as_bytes()),
        "a.tsv, row 2, column `image`: the image cell is no path to a picture, no data URI and no base64: \
         it holds `没`; a path ends in one of: jpg, jpeg, png, webp, gif, bmp"
    );
    let columns = || Columns {
        weight: Some("w".into()),
        id: Some("id".into()),
        ..Columns::default()
    };
    let weighed = |cells: &str| {
        let text = format!("text\timage\tw\tid\nx\tYQ\t1\ta\nx\tYQ\t{cells}\ny\tYQ\t0\tb\n");
        second(
            "a.tsv",
            text.as_bytes(),
            TableOptions {
                columns: columns(),
                ..header()
            },
        )
    };
    for weight in ["-1", "nan", "inf", "heavy"] {
        let expected = format!("a.tsv, row 3, column `w`: the weight `{weight}` is no finite number of at least 0");
        assert_eq!(weighed(&format!("{weight}\tc")), expected);
    }
    assert_eq!(weighed("1\t"), "a.tsv, row 3, column `id`: the id is empty");
}

#[test]
fn bad_rows_of_csv() {
    let bad = |bytes: &[u8]| {
        second(
            "a.csv",
            &[b"text,image\nx,YQ\n", bytes, b"\ny,YQ\n"].concat(),
            TableOptions::default(),
        )
    };
    assert_eq!(
        bad(b"red, soft,YQ"),
        "a.csv, row 3: the row has 3 cells for 2 columns; quote cells that hold a comma, or name all columns"
    );
    assert_eq!(
        bad(b"\"red, soft\""),
        "a.csv, row 3, column `image`: the row has 1 cell and needs 2; \
         check the row, or name the columns there are with --schema"
    );
    let fixture = Fixture::new("a.csv", "text,image\nx,YQ\n\"open,YQ\nz,YQ\n");
    let table = fixture.open(TableOptions::default()).unwrap();
    assert_eq!(table.rows(), 2);
    assert_eq!(
        fixture.short(&table.get(1).unwrap_err()),
        "a.csv, row 3: a quote is opened and never closed, so the row runs to the end of the file; \
         close it, and write a quote inside of a cell as two"
    );
}

#[test]
fn bad_rows_of_jsonl() {
    let good = b"{\"text\": \"x\", \"image\": \"YQ\"}\n";
    let bad = |bytes: &str| {
        second(
            "a.jsonl",
            &[good, bytes.as_bytes(), b"\n", good].concat(),
            TableOptions::default(),
        )
    };
    assert_eq!(
        bad("{\"text\": \"x\""),
        "a.jsonl, row 2: the row is not JSON: EOF while parsing an object, at byte 12"
    );
    assert_eq!(
        bad(""),
        "a.jsonl, row 2: the row is not JSON: EOF while parsing a value, at byte 0"
    );
    assert_eq!(
        bad("[1]"),
        "a.jsonl, row 2: the row is a list, not a JSON object; write a line like {\"text\": \"…\", \"image\": \"…\"}"
    );
    assert_eq!(
        bad("{\"caption\": \"x\", \"image\": \"YQ\"}"),
        "a.jsonl, row 2, column `text`: the row has no `text`; it has: caption, image; write null for an empty cell"
    );
    assert_eq!(
        bad("{\"text\": {\"en\": \"x\"}, \"image\": \"YQ\"}"),
        "a.jsonl, row 2, column `text`: the cell is an object, not a string"
    );
    assert_eq!(
        bad("{\"text\": [], \"image\": \"YQ\"}"),
        "a.jsonl, row 2, column `text`: the text is empty"
    );
    assert_eq!(
        bad("{\"text\": [\"a\", \"\"], \"image\": \"YQ\"}"),
        "a.jsonl, row 2, column `text`: one of the texts is empty"
    );
    assert_eq!(
        bad("{\"text\": \"x\", \"image\": null}"),
        "a.jsonl, row 2, column `image`: the image cell is empty"
    );
}

#[test]
fn bad_rows_do_not_stop_an_order() {
    let fixture = Fixture::new("a.tsv", "x\tYQ\tA\ny\nz\tYQ\tA\n");
    let options = TableOptions {
        schema: schema("text:str:1,image:str:1,item:str:1"),
        ..TableOptions::default()
    };
    let table = fixture.open(options).unwrap();
    let plan = Plan {
        seed: 0,
        epoch: 0,
        rank: 0,
        world: 1,
        batch: 1,
    };
    assert_eq!(UniqueBy { column: "item".into() }.rows(&table, &plan).unwrap().len(), 3);
    assert_eq!(Shuffle.rows(&table, &plan).unwrap().len(), 3);
}

/// Every row and every cell is asked for; nothing may panic.
fn exercise(name: &'static str, bytes: &[u8], options: TableOptions) {
    let fixture = Fixture::new(name, bytes);
    if let Ok(table) = fixture.open(options) {
        for row in 0..=table.rows() {
            table.get(row).ok();
            table.cell(row, "text").ok();
            table.label(row, "image").ok();
        }
    }
}

proptest! {
    #[test]
    fn tsv_comes_back(rows in prop::collection::vec(("[^\t\r\n\u{feff}]{1,9}", "[^\t\r\n]{0,9}x"), 1..9), crlf: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        let text: String = rows.iter().map(|(a, b)| format!("{a}\t{b}{end}")).collect();
        let fixture = Fixture::new("a.tsv", text);
        let table = fixture.open(TableOptions::default()).unwrap();
        prop_assert_eq!(table.rows(), rows.len());
        for (index, (a, b)) in rows.iter().enumerate() {
            prop_assert_eq!(&table.cell(index, "text").unwrap(), a);
            prop_assert_eq!(&table.cell(index, "image").unwrap(), b);
        }
    }

    #[test]
    fn csv_comes_back(rows in prop::collection::vec(("(?s)[a,\" \r\n]{0,6}", "(?s).{0,6}x"), 1..9), crlf: bool) {
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
        writer.write_record(["text", "image"]).unwrap();
        for (a, b) in &rows {
            writer.write_record([a, b]).unwrap();
        }
        let fixture = Fixture::new("a.csv", writer.into_inner().unwrap());
        let table = fixture.open(TableOptions::default()).unwrap();
        prop_assert_eq!(table.rows(), rows.len());
        for (index, (a, b)) in rows.iter().enumerate() {
            prop_assert_eq!(&table.cell(index, "text").unwrap(), a);
            prop_assert_eq!(&table.cell(index, "image").unwrap(), b);
        }
    }

    #[test]
    fn jsonl_comes_back(rows in prop::collection::vec((any::<String>(), any::<String>()), 1..9)) {
        let line = |(a, b): &(String, String)| format!("{}\n", serde_json::json!({ "text": a, "image": b }));
        let fixture = Fixture::new("a.jsonl", rows.iter().map(line).collect::<String>());
        let table = fixture.open(TableOptions::default()).unwrap();
        for (index, (a, b)) in rows.iter().enumerate() {
            prop_assert_eq!(&table.cell(index, "text").unwrap(), a);
            prop_assert_eq!(&table.cell(index, "image").unwrap(), b);
        }
    }

    #[test]
    fn no_bytes_panic(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"a,\"\n\r\t\xef\xbb\xbf{}:[]".to_vec())], 0..90),
        with_header: bool,
    ) {
        for name in ["a.tsv", "a.csv", "a.jsonl"] {
            exercise(name, &bytes, TableOptions { header: Some(with_header), ..TableOptions::default() });
        }
    }
}
