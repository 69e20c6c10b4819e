//! Flags of `train` about its tables, and how they are opened.

use std::path::Path;

use clip_data::{Columns, Format, Roles, Table};
use clip_train::DataConfig;

use super::args::{OnBadRow, open_table, table_format};
use super::failure::Outcome;
use super::train_flags::{set, set_some};

/// The table's flags, each `None` where the file decides.
#[derive(clap::Args)]
#[command(next_help_heading = "Table")]
pub(super) struct TableFlags {
    /// What the tables look like, whatever they are called: tsv, csv, jsonl, folder
    #[arg(long, value_name = "FORMAT", value_parser = table_format)]
    table_format: Option<Format>,
    /// Columns of a table without header: name:type:count, separated by commas
    #[arg(long, value_name = "SCHEMA")]
    schema: Option<String>,
    /// The first line of a TSV holds the names (always so for .csv)
    #[arg(long)]
    header: bool,
    /// Column of the texts [default: text]
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// Column of the pictures [default: image]
    #[arg(long, value_name = "NAME")]
    image_column: Option<String>,
    /// Column of the product: rows of one product are never each other's negatives
    #[arg(long, value_name = "NAME")]
    item_column: Option<String>,
    /// Column of the concepts
    #[arg(long, value_name = "NAME")]
    concept_column: Option<String>,
    /// Column of the weights
    #[arg(long, value_name = "NAME")]
    weight_column: Option<String>,
    /// Column of the row's own id
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,
    /// What to do with a row that cannot be read: stop (default), or skip and list it in OUTPUT.rejects.jsonl
    #[arg(long, value_enum)]
    bad_rows: Option<OnBadRow>,
}

impl TableFlags {
    pub(super) fn over(&mut self, data: &mut DataConfig) {
        set_some(&mut data.format, self.table_format);
        set_some(&mut data.schema, self.schema.take());
        set_some(&mut data.header, self.header.then_some(true));
        set(&mut data.text_column, self.text_column.take());
        set(&mut data.image_column, self.image_column.take());
        set_some(&mut data.item_column, self.item_column.take());
        set_some(&mut data.concept_column, self.concept_column.take());
        set_some(&mut data.weight_column, self.weight_column.take());
        set_some(&mut data.id_column, self.id_column.take());
        set(
            &mut data.bad_rows,
            self.bad_rows.map(|policy| match policy {
                OnBadRow::Stop => clip_train::BadRows::Stop,
                OnBadRow::Skip => clip_train::BadRows::Skip,
            }),
        );
    }
}

/// Opens a table as the settings say.
pub(super) fn open(data: &DataConfig, file: &Path, roles: Roles) -> Outcome<Table> {
    let columns = Columns {
        text: data.text_column.clone(),
        image: data.image_column.clone(),
        item: data.item_column.clone(),
        concept: data.concept_column.clone(),
        weight: data.weight_column.clone(),
        id: data.id_column.clone(),
    };
    let form = (data.format, data.schema.as_deref());
    open_table(file, form, data.header, columns, roles)
}
