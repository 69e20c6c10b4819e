//! JPEG: the markers read here, the picture by zune-jpeg.

use clip_core::{Error, Image, Raster, Result};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Decoded, Limits, broken, orient, truncated};

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Decodes a whole JPEG.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    let header = Header::read(bytes)?;
    let frame = header
        .frame
        .ok_or_else(|| broken("the JPEG picture has no frame".to_owned()))?;
    if frame.bits != 8 {
        return Err(Error::invalid(format!(
            "a JPEG picture of {} bits a sample is not supported",
            frame.bits
        ))
        .remedy("convert it to 8 bits"));
    }
    let [width, height] = limits.check(frame.width.into(), frame.height.into())?;
    // What each decodes to in the reference's library; the last two come out unconverted.
    let (colours, channels) = match (frame.components, header.adobe) {
        (1, _) => (ColorSpace::Luma, 1),
        (3, None) if !header.jfif && frame.ids == *b"RGB" => (ColorSpace::YCbCr, 3),
        (3, _) => (ColorSpace::RGB, 3),
        (4, Some(2)) => (ColorSpace::YCCK, 4),
        (4, _) => (ColorSpace::CMYK, 4),
        (other, _) => {
            return Err(broken(format!("a JPEG picture of {other} components is not supported")));
        }
    };
    let options = DecoderOptions::default()
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(colours);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let unreadable = |error| broken(format!("the JPEG picture is broken: {error}"));
    decoder.decode_headers().map_err(unreadable)?;
    if decoder.output_buffer_size() != Some(width * height * channels) {
        return Err(broken(
            "the JPEG picture is broken: its headers contradict each other".to_owned(),
        ));
    }
    let mut data = vec![0; width * height * channels];
    decoder.decode_into(&mut data).map_err(unreadable)?;
    let raster = match colours {
        ColorSpace::Luma => Raster::Grey(data),
        ColorSpace::CMYK => {
            // Adobe writes inks inverted, and Pillow takes every file to be Adobe's.
            data.iter_mut().for_each(|ink| *ink = 255 - *ink);
            Raster::Cmyk(data)
        }
        ColorSpace::YCCK => {
            data.as_chunks_mut::<4>().0.iter_mut().for_each(inks);
            Raster::Cmyk(data)
        }
        _ => Raster::Rgb(data),
    };
    let image = Image::new(frame.width.into(), frame.height.into(), raster)?;
    Ok(Decoded {
        image,
        orientation: header.orientation,
    })
}

/// Adobe's YCCK: the inverted inks as luminance and colour differences, and black, inverted too.
fn inks(pixel: &mut [u8; 4]) {
    let [luminance, blue, red, black] = pixel.map(i32::from);
    let (blue, red) = (blue - 128, red - 128);
    // The conversion of the JPEG standard in 16-bit fixed point, rounded.
    let scaled = |factor: f64, value: i32| (factor * 65536.0).round() as i32 * value;
    let inverted = [
        luminance + ((scaled(1.402, red) + 32768) >> 16),
        luminance + ((-scaled(0.344_136_286, blue) - scaled(0.714_136_286, red) + 32768) >> 16),
        luminance + ((scaled(1.772, blue) + 32768) >> 16),
    ];
    let [cyan, magenta, yellow] = inverted.map(|value| value.clamp(0, 255) as u8);
    *pixel = [cyan, magenta, yellow, 255 - black as u8];
}

/// What the markers say.
#[derive(Default)]
struct Header {
    frame: Option<Frame>,
    jfif: bool,
    /// The colour transform of Adobe's marker.
    adobe: Option<u8>,
    orientation: Option<u8>,
}

#[derive(Clone, Copy)]
struct Frame {
    bits: u8,
    width: u16,
    height: u16,
    components: u8,
    /// Names of the first three components.
    ids: [u8; 3],
}

impl Header {
    /// Walks all markers up to the end of the picture; data that ends before is truncated.
    fn read(bytes: &[u8]) -> Result<Self> {
        let cut = || truncated("JPEG");
        let mut header = Self::default();
        let mut at = 2;
        loop {
            // Stray bytes and fill bytes may stand before a marker.
            at += memchr::memchr(0xff, bytes.get(at..).unwrap_or_default()).ok_or_else(cut)?;
            while bytes.get(at) == Some(&0xff) {
                at += 1;
            }
            let marker = *bytes.get(at).ok_or_else(cut)?;
            at += 1;
            match marker {
                END_OF_IMAGE => return Ok(header),
                // A stuffed 0xff of a scan, a restart, a stray start: nothing follows.
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let length = bytes.get(at..at + 2).ok_or_else(cut)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            let segment = bytes.get(at + 2..at + length).ok_or_else(cut)?;
            header.segment(marker, segment)?;
            if marker == START_OF_SCAN && header.frame.is_none() {
                return Err(broken("the JPEG picture has no frame".to_owned()));
            }
            at += length;
        }
    }

    fn segment(&mut self, marker: u8, segment: &[u8]) -> Result<()> {
        match (marker, segment) {
            // Start of a frame, of any coding; 0xc4, 0xc8 and 0xcc are tables.
            (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, data) => {
                let &[bits, h1, h0, w1, w0, components, ref rest @ ..] = data else {
                    return Err(broken("the JPEG picture is broken: its frame is too short".to_owned()));
                };
                let id = |index: usize| rest.get(index * 3).copied().unwrap_or(0);
                let frame = Frame {
                    bits,
                    width: u16::from_be_bytes([w1, w0]),
                    height: u16::from_be_bytes([h1, h0]),
                    components,
                    ids: [id(0), id(1), id(2)],
                };
                self.frame.get_or_insert(frame);
            }
            (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => self.jfif = true,
            (0xe1, [b'E', b'x', b'i', b'f', 0, 0, tiff @ ..]) if self.orientation.is_none() => {
                self.orientation = orient::of_exif(tiff);
            }
            (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => self.adobe = Some(*transform),
            _ => {}
        }
        Ok(())
    }
}
