//! TensorBoard's file format: TFRecord framing around `tensorflow.Event` messages of Protocol Buffers.

/// CRC-32C (Castagnoli), reflected, as in RFC 3720, appendix B.4.
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ 0x82f6_3b78
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

const TABLE: [u32; 256] = table();

fn crc(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// A checksum of data that holds checksums: rotated and shifted, as TFRecord has it.
fn masked(bytes: &[u8]) -> u32 {
    crc(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A record: length, its checksum, data, its checksum.
pub(super) fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked(data).to_le_bytes());
    out
}

/// What an event says.
pub(super) enum What<'a> {
    /// The first event of a file.
    Version,
    /// A process goes on: events of this step and later ones, written before, no longer count.
    Restart,
    /// Named values.
    Scalars(&'a [(String, f32)]),
    /// A text under a name, which TensorBoard shows as Markdown.
    Text(&'a str, &'a str),
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes: strings and messages.
fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// An event: `wall_time` 1 (double), `step` 2, `file_version` 3, `summary` 5, `session_log` 7.
pub(super) fn event(seconds: f64, step: u64, what: &What<'_>) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(seconds.to_le_bytes());
    varint(&mut out, 2 << 3);
    varint(&mut out, step);
    match what {
        What::Version => field(&mut out, 3, b"brain.Event:2"),
        // SessionLog: status 1, START = 1.
        What::Restart => field(&mut out, 7, &[1 << 3, 1]),
        What::Scalars(values) => {
            let mut summary = Vec::new();
            for (tag, value) in *values {
                // Summary.Value: tag 1, simple_value 2 (float).
                let mut one = Vec::new();
                field(&mut one, 1, tag.as_bytes());
                one.push(2 << 3 | 5);
                one.extend(value.to_le_bytes());
                field(&mut summary, 1, &one);
            }
            field(&mut out, 5, &summary);
        }
        What::Text(tag, text) => field(&mut out, 5, &summary_of_text(tag, text)),
    }
    out
}

/// Summary.Value: tag 1, tensor 8, metadata 9, as TensorBoard's text plugin asks for them.
fn summary_of_text(tag: &str, text: &str) -> Vec<u8> {
    // TensorShapeProto with one dimension (2) of size (1) one.
    let mut dimension = vec![1 << 3];
    varint(&mut dimension, 1);
    let (mut shape, mut tensor) = (Vec::new(), Vec::new());
    field(&mut shape, 2, &dimension);
    // TensorProto: dtype 1 (DT_STRING = 7), tensor_shape 2, string_val 8.
    tensor.extend([1 << 3, 7]);
    field(&mut tensor, 2, &shape);
    field(&mut tensor, 8, text.as_bytes());
    // SummaryMetadata: plugin_data 1, which holds plugin_name 1.
    let (mut plugin, mut metadata) = (Vec::new(), Vec::new());
    field(&mut plugin, 1, b"text");
    field(&mut metadata, 1, &plugin);
    let (mut one, mut summary) = (Vec::new(), Vec::new());
    field(&mut one, 1, tag.as_bytes());
    field(&mut one, 8, &tensor);
    field(&mut one, 9, &metadata);
    field(&mut summary, 1, &one);
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, ascending.
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_record_is_what_tensorboard_writes() {
        // tensorboard 2.21: its RecordWriter of Event(wall_time=1.0, step=300, summary of one value).
        let event = event(1.0, 300, &What::Scalars(&[("train/loss".into(), 0.5)]));
        let wanted = [
            &[
                0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02, 0x2a, 19, 0x0a, 17, 0x0a, 10,
            ][..],
            b"train/loss",
            &[0x15, 0, 0, 0, 0x3f],
        ]
        .concat();
        assert_eq!(event, wanted);
        let record = record(&event);
        assert_eq!(record[..12], [0x21, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x7b, 0xec, 0xf6]);
        assert_eq!(record[12..45], event);
        assert_eq!(record[45..], [0xc5, 0x99, 0x76, 0xc6]);
    }

    #[test]
    fn a_text_is_what_tensorboard_writes() {
        // tensorboard 2.21: Event(wall_time=1.0, step=3, summary of a string tensor with the plugin's name).
        let event = event(1.0, 3, &What::Text("config/a", "hi"));
        let wanted = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 3, 0x2a, 36, 0x0a, 34, 0x0a, 8][..],
            b"config/a",
            &[0x42, 12, 0x08, 7, 0x12, 4, 0x12, 2, 0x08, 1, 0x42, 2],
            b"hi",
            &[0x4a, 8, 0x0a, 6, 0x0a, 4],
            b"text",
        ]
        .concat();
        assert_eq!(event, wanted);
    }
}
