//! A workbook of one sheet (ECMA-376), written as a stream: a ZIP archive of small fixed parts
//! and the sheet's rows, whose texts stand in their cells.

use std::io::{self, BufWriter, Write};

use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::text::{ExportCell, Out, column_names, write_rows};
use super::{Beside, ExportError, Selection};
use crate::dataset::{Dataset, Value};

/// Rows of a sheet, the head included: what spreadsheet programs open.
const MAX_SHEET_ROWS: u64 = 1 << 20;
/// UTF-16 units of a cell's text: what spreadsheet programs open.
const MAX_CELL_UNITS: usize = 32_767;
/// Whole numbers to either side of 0 that a cell's number holds exactly; others are text.
const MAX_EXACT: u64 = 1 << 53;

const SHEET: &str = "xl/worksheets/sheet1.xml";
/// The parts that say what the archive is.
const PARTS: [(&str, &str); 4] = [
    (
        "[Content_Types].xml",
        concat!(
            r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#,
            r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">"#,
            r#"<Default Extension="rels" "#,
            r#"ContentType="application/vnd.openxmlformats-package.relationships+xml"/>"#,
            r#"<Override PartName="/xl/workbook.xml" ContentType="application/"#,
            r#"vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>"#,
            r#"<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/"#,
            r#"vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
        ),
    ),
    (
        "_rels/.rels",
        concat!(
            r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#,
            r#"<Relationships "#,
            r#"xmlns="http://schemas.openxmlformats.org/package/2006/relationships">"#,
            r#"<Relationship Id="rId1" Target="xl/workbook.xml" Type="http://schemas."#,
            r#"openxmlformats.org/officeDocument/2006/relationships/officeDocument"/>"#,
            r#"</Relationships>"#,
        ),
    ),
    (
        "xl/workbook.xml",
        concat!(
            r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#,
            r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" "#,
            r#"xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">"#,
            r#"<sheets><sheet name="rows" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
        ),
    ),
    (
        "xl/_rels/workbook.xml.rels",
        concat!(
            r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#,
            r#"<Relationships "#,
            r#"xmlns="http://schemas.openxmlformats.org/package/2006/relationships">"#,
            r#"<Relationship Id="rId1" Target="worksheets/sheet1.xml" Type="http://schemas."#,
            r#"openxmlformats.org/officeDocument/2006/relationships/worksheet"/>"#,
            r#"</Relationships>"#,
        ),
    ),
];
const SHEET_HEAD: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#,
    r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#,
);
const SHEET_FOOT: &str = "</sheetData></worksheet>";

/// Refuses more rows than a sheet has below its head.
pub(super) fn check_rows(rows: u64) -> Result<(), ExportError> {
    let limit = MAX_SHEET_ROWS - 1;
    if rows > limit { Err(ExportError::TooManyRows { rows, limit }) } else { Ok(()) }
}

pub(super) fn write(
    dataset: &Dataset,
    beside: &mut dyn Beside,
    selection: &Selection,
    writer: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    if selection.split.is_none() {
        check_rows(dataset.rows())?;
    }
    let failed = |source| ExportError::Write { source };
    let mut archive = ZipWriter::new_stream(BufWriter::new(writer));
    // A sheet that is full passes 4 GiB before it is packed.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .large_file(true);
    for (name, content) in PARTS {
        begin(&mut archive, name, options).map_err(failed)?;
        archive.write_all(content.as_bytes()).map_err(failed)?;
    }
    begin(&mut archive, SHEET, options).map_err(failed)?;
    archive.write_all(SHEET_HEAD.as_bytes()).map_err(failed)?;
    let names = column_names(dataset, beside.columns(), selection);
    let head = |out: &mut Out<'_>| {
        out.write_all(b"<row>")?;
        names.iter().try_for_each(|name| text_cell(out, name))?;
        out.write_all(b"</row>")
    };
    let rows = write_rows(dataset, beside, selection, &mut archive, &head, &|out, row| {
        out.write_all(b"<row>")?;
        for index in 0..names.len() {
            match row.cell(index) {
                ExportCell::Nothing => out.write_all(b"<c/>")?,
                ExportCell::Value(Value::String(text)) => text_cell(out, text)?,
                ExportCell::Value(Value::Int(value)) if value.unsigned_abs() > MAX_EXACT => {
                    text_cell(out, &value.to_string())?;
                }
                ExportCell::Value(Value::Int(value)) => write!(out, "<c><v>{value}</v></c>")?,
                ExportCell::Value(Value::Float(value)) if value.is_finite() => {
                    write!(out, "<c><v>{value:?}</v></c>")?;
                }
                ExportCell::Value(Value::Float(value)) => text_cell(out, &value.to_string())?,
                ExportCell::Value(Value::Bool(value)) => {
                    write!(out, "<c t=\"b\"><v>{}</v></c>", u8::from(value))?;
                }
                ExportCell::RowId(id) => write!(out, "<c><v>{id}</v></c>")?,
                ExportCell::Names(names) => text_cell(out, &serde_json::to_string(&names)?)?,
                ExportCell::Shares(shares) => text_cell(out, &serde_json::to_string(shares)?)?,
                ExportCell::Weight(weight) => write!(out, "<c><v>{weight}</v></c>")?,
            }
        }
        out.write_all(b"</row>")
    })?;
    check_rows(rows)?;
    archive.write_all(SHEET_FOOT.as_bytes()).map_err(failed)?;
    let written = archive.finish().map_err(|error| failed(error.into()))?;
    written.into_inner().flush().map_err(failed)?;
    Ok(rows)
}

fn begin<W: Write>(
    archive: &mut ZipWriter<StreamWriter<W>>,
    name: &str,
    options: SimpleFileOptions,
) -> io::Result<()> {
    archive.start_file(name, options).map_err(io::Error::from)
}

fn text_cell(out: &mut impl Write, text: &str) -> io::Result<()> {
    let units = text.encode_utf16().count();
    if units > MAX_CELL_UNITS {
        return Err(io::Error::other(format!(
            "a text has {units} characters, and a cell of a sheet holds {MAX_CELL_UNITS}; write \
             csv or parquet instead"
        )));
    }
    out.write_all(b"<c t=\"inlineStr\"><is><t xml:space=\"preserve\">")?;
    let mut written = 0;
    for (at, c) in text.char_indices() {
        let plain = match c {
            '&' | '<' | '>' => false,
            '\t' | '\n' => true,
            // XML has no word for these, or reads another; sheets write their number instead.
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => false,
            // Would be read as such a number.
            '_' => !is_number_of_character(&text.as_bytes()[at..]),
            _ => true,
        };
        if plain {
            continue;
        }
        out.write_all(&text.as_bytes()[written..at])?;
        match c {
            '&' => out.write_all(b"&amp;")?,
            '<' => out.write_all(b"&lt;")?,
            '>' => out.write_all(b"&gt;")?,
            c => write!(out, "_x{:04X}_", u32::from(c))?,
        }
        written = at + c.len_utf8();
    }
    out.write_all(&text.as_bytes()[written..])?;
    out.write_all(b"</t></is></c>")
}

/// Whether the text begins with the number of a character, as in `_x000D_`.
fn is_number_of_character(text: &[u8]) -> bool {
    text.get(..7).is_some_and(|head| {
        head[1] == b'x' && head[6] == b'_' && head[2..6].iter().all(u8::is_ascii_hexdigit)
    })
}
