//! Pictures inside the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clip_core::{Error, Result};

/// A picture that browsers show: JPEG, PNG, WebP, GIF or BMP, and words for those who do not see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    mime: &'static str,
    bytes: Vec<u8>,
    alt: String,
}

impl Picture {
    /// The picture of a file's bytes. Its type is told from the bytes, not from a name; another type is an error.
    pub fn new(bytes: impl Into<Vec<u8>>, alt: impl Into<String>) -> Result<Self> {
        let bytes = bytes.into();
        let mime = match bytes.as_slice() {
            [0xff, 0xd8, 0xff, ..] => "image/jpeg",
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => "image/png",
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
            [b'B', b'M', ..] => "image/bmp",
            _ => {
                return Err(
                    Error::invalid("the bytes are no picture that a browser shows").remedy("convert it to PNG or JPEG")
                );
            }
        };
        Ok(Self {
            mime,
            bytes,
            alt: alt.into(),
        })
    }

    /// The media type: `image/png` and the like.
    pub fn mime(&self) -> &'static str {
        self.mime
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it shows, in words.
    pub fn alt(&self) -> &str {
        &self.alt
    }

    pub(crate) fn data_uri(&self) -> String {
        let mut uri = format!("data:{};base64,", self.mime);
        STANDARD.encode_string(&self.bytes, &mut uri);
        uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_told_from_the_bytes() {
        let mime = |bytes: &[u8]| Picture::new(bytes, "").map(|picture| picture.mime());
        assert_eq!(mime(b"\x89PNG\r\n\x1a\nrest").unwrap(), "image/png");
        assert_eq!(mime(b"\xff\xd8\xff\xe0").unwrap(), "image/jpeg");
        assert_eq!(mime(b"RIFF....WEBPVP8 ").unwrap(), "image/webp");
        assert_eq!(mime(b"GIF89a").unwrap(), "image/gif");
        assert_eq!(mime(b"BM").unwrap(), "image/bmp");
        for other in [&b"<svg onload='alert(1)'/>"[..], b"", b"RIFF....WAVE"] {
            assert!(mime(other).unwrap_err().to_string().contains("convert it to PNG"));
        }
    }
}
