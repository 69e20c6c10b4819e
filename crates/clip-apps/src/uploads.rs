//! Pictures that come inside a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clip_core::{EmbedWorker, Embedder, Embeddings, EncodedImage, Error, ImageDecoder, Result};

/// Embeds pictures given as data URIs in base64. An error names the one that cannot be opened: `images[3]`.
pub(crate) fn embed_uris(worker: &EmbedWorker, decoder: &dyn ImageDecoder, uris: &[String]) -> Result<Embeddings> {
    let mut images = Vec::with_capacity(uris.len());
    for (number, uri) in uris.iter().enumerate() {
        let image = data_uri(uri).and_then(|bytes| decoder.decode(&EncodedImage::Bytes(bytes.into())));
        images.push(image.map_err(|error| error.column(format!("images[{number}]")))?);
    }
    worker.embed_images(&images)
}

/// The bytes of a data URI in base64.
fn data_uri(uri: &str) -> Result<Vec<u8>> {
    let body = uri
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','))
        .filter(|(head, _)| head.ends_with(";base64"));
    let (_, body) = body.ok_or_else(|| {
        Error::invalid("the picture is no data URI in base64").remedy("write it as data:image/png;base64,…")
    })?;
    STANDARD
        .decode(body.trim())
        .map_err(|error| Error::invalid(format!("the picture is no base64: {error}")).source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_uris_are_read() {
        assert_eq!(data_uri("data:image/png;base64,AQID").unwrap(), [1, 2, 3]);
        for (bad, what) in [
            ("AQID", "no data URI"),
            ("data:image/png,AQID", "no data URI"),
            ("data:;base64,A", "no base64"),
        ] {
            assert!(data_uri(bad).unwrap_err().what().contains(what), "{bad}");
        }
    }
}
