//! Pixels to PNG files and back. Plots have few colours: a palette makes their files a third as large and as fast to
//! read, and shades of grey need no palette at all. Nothing is lost in either.

use std::borrow::Cow;
use std::io::Cursor;

use ::png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Info, Transformations};

use super::{ArtifactError, COLOURS};

const WHAT: &str = "PNG";

/// The most colours of a palette.
const PALETTE: usize = 256;

fn corrupt(reason: impl ToString) -> ArtifactError {
    ArtifactError::corrupt(WHAT, reason.to_string())
}

/// The PNG file of `rgb`, `[height, width, 3]`.
pub(super) fn encode(height: usize, width: usize, rgb: &[u8]) -> Result<Vec<u8>, ArtifactError> {
    if rgb.len() != height * width * COLOURS {
        return Err(corrupt(format!(
            "{} bytes are not a picture of {width}x{height} pixels",
            rgb.len()
        )));
    }
    let side = |pixels: usize| u32::try_from(pixels).map_err(corrupt);
    let mut file = Vec::with_capacity(rgb.len() / 16 + 1024);
    let mut encoder = Encoder::new(&mut file, side(width)?, side(height)?);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let indexed = index_colours(rgb);
    let data = match &indexed {
        Some(Indexed { palette, pixels })
            if palette
                .iter()
                .all(|[red, green, blue]| red == green && green == blue) =>
        {
            encoder.set_color(ColorType::Grayscale);
            Cow::Owned(
                pixels
                    .iter()
                    .map(|index| palette[usize::from(*index)][0])
                    .collect(),
            )
        }
        Some(Indexed { palette, pixels }) => {
            encoder.set_color(ColorType::Indexed);
            encoder.set_palette(palette.concat());
            Cow::Borrowed(pixels)
        }
        None => {
            encoder.set_color(ColorType::Rgb);
            Cow::Owned(rgb.to_vec())
        }
    };
    // Neighbouring rows of plots are alike, and so are those of photographs.
    encoder.set_filter(Filter::Up);
    let mut writer = encoder.write_header().map_err(corrupt)?;
    writer.write_image_data(&data).map_err(corrupt)?;
    writer.finish().map_err(corrupt)?;
    Ok(file)
}

/// A picture of few colours.
struct Indexed {
    /// In the order in which they appear.
    palette: Vec<[u8; COLOURS]>,
    /// `[height, width]`: places in the palette.
    pixels: Vec<u8>,
}

/// Finds the colours of a picture; `None` if they are too many for a palette.
fn index_colours(rgb: &[u8]) -> Option<Indexed> {
    /// Slots of the hash table; at most a quarter of them is taken.
    const SLOTS: usize = 4 * PALETTE;
    let mut slots: [Option<u8>; SLOTS] = [None; SLOTS];
    let mut palette: Vec<[u8; COLOURS]> = Vec::new();
    let mut pixels = Vec::with_capacity(rgb.len() / COLOURS);
    let mut last = ([0; COLOURS], None);
    for pixel in rgb.as_chunks::<COLOURS>().0 {
        if let (colour, Some(index)) = last
            && colour == *pixel
        {
            pixels.push(index);
            continue;
        }
        let [red, green, blue] = pixel.map(u32::from);
        let mut slot = ((red << 16 | green << 8 | blue).wrapping_mul(0x9e37_79b1) >> 22) as usize;
        let index = loop {
            match slots[slot] {
                Some(index) if palette[usize::from(index)] == *pixel => break index,
                Some(_) => slot = (slot + 1) % SLOTS,
                None => {
                    let index = u8::try_from(palette.len()).ok()?;
                    palette.push(*pixel);
                    slots[slot] = Some(index);
                    break index;
                }
            }
        };
        pixels.push(index);
        last = (*pixel, Some(index));
    }
    Some(Indexed { palette, pixels })
}

/// The most pixels of a picture: a square of 4,096.
const MOST_PIXELS: usize = 1 << 24;

/// The most bytes that a byte of compressed data can become.
const DEFLATE_RATIO: usize = 1032;

/// Height and width of a PNG file, if its bytes can hold as many pixels.
pub(super) fn size(file: &[u8]) -> Result<(usize, usize), ArtifactError> {
    let reader = Decoder::new(Cursor::new(file))
        .read_info()
        .map_err(corrupt)?;
    checked_size(reader.info(), file.len())
}

fn checked_size(info: &Info<'_>, bytes: usize) -> Result<(usize, usize), ArtifactError> {
    let (height, width) = (info.height as usize, info.width as usize);
    let pixels = height
        .checked_mul(width)
        .filter(|pixels| *pixels <= MOST_PIXELS);
    // At least a bit per pixel is compressed.
    if pixels.is_none_or(|pixels| pixels / 8 > bytes.saturating_mul(DEFLATE_RATIO)) {
        return Err(corrupt(format!(
            "{bytes} bytes cannot hold a picture of {width}x{height} pixels"
        )));
    }
    Ok((height, width))
}

/// Decodes a PNG file of any colour type into `[height, width, 3]`.
pub(super) fn decode_into(file: &[u8], rgb: &mut [u8]) -> Result<(), ArtifactError> {
    let mut decoder = Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(corrupt)?;
    let (height, width) = checked_size(reader.info(), file.len())?;
    if rgb.len() != height * width * COLOURS {
        return Err(corrupt(format!(
            "the picture is {width}x{height} pixels large"
        )));
    }
    let (colour, _) = reader.output_color_type();
    if colour == ColorType::Rgb {
        reader.next_frame(rgb).map_err(corrupt)?;
        return Ok(());
    }
    let mut raw = vec![
        0;
        reader
            .output_buffer_size()
            .ok_or_else(|| corrupt("the picture is too large"))?
    ];
    reader.next_frame(&mut raw).map_err(corrupt)?;
    let pixels = rgb.as_chunks_mut::<COLOURS>().0.iter_mut();
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    match colour {
        ColorType::Grayscale => pixels
            .zip(raw)
            .for_each(|(pixel, grey)| *pixel = [grey; COLOURS]),
        ColorType::GrayscaleAlpha => {
            let raw = raw.as_chunks::<2>().0;
            pixels
                .zip(raw)
                .for_each(|(pixel, [grey, alpha])| *pixel = [on_white(*grey, *alpha); COLOURS]);
        }
        ColorType::Rgba => {
            let raw = raw.as_chunks::<4>().0;
            pixels
                .zip(raw)
                .for_each(|(pixel, [red, green, blue, alpha])| {
                    *pixel = [red, green, blue].map(|value| on_white(*value, *alpha));
                });
        }
        other => return Err(corrupt(format!("pixels of type {other:?}"))),
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A PNG file of the same pixels that is written in another way.
    pub fn uncompressed(height: usize, width: usize, rgb: &[u8]) -> Vec<u8> {
        write(height, width, ColorType::Rgb, rgb)
    }

    fn write(height: usize, width: usize, colour: ColorType, data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, width as u32, height as u32);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::NoCompression);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        file
    }

    fn colour_type(file: &[u8]) -> ColorType {
        Decoder::new(Cursor::new(file))
            .read_info()
            .unwrap()
            .info()
            .color_type
    }

    #[test]
    fn nothing_is_lost_and_few_colours_are_stored_as_such() {
        let (height, width) = (31, 40);
        let of_colours = |count: usize, grey: bool| -> Vec<u8> {
            let colour = |pixel: usize| {
                let value = (pixel * 7 % count) as u32;
                if grey {
                    [value as u8; 3]
                } else {
                    [value as u8, (value >> 8) as u8, 77]
                }
            };
            (0..height * width).flat_map(colour).collect()
        };
        for (colours, grey, expected) in [
            (1, true, ColorType::Grayscale),
            (256, true, ColorType::Grayscale),
            (2, false, ColorType::Indexed),
            (256, false, ColorType::Indexed),
            (257, false, ColorType::Rgb),
            (1000, false, ColorType::Rgb),
        ] {
            let rgb = of_colours(colours, grey);
            let file = encode(height, width, &rgb).unwrap();
            assert_eq!(colour_type(&file), expected, "{colours} colours");
            assert_eq!(size(&file).unwrap(), (height, width));
            let mut again = vec![1; rgb.len()];
            decode_into(&file, &mut again).unwrap();
            assert_eq!(again, rgb, "{colours} colours");
        }
    }

    #[test]
    fn transparency_shows_white() {
        let mut rgb = vec![0; 6];
        decode_into(
            &write(1, 2, ColorType::Rgba, &[10, 20, 30, 255, 0, 0, 0, 0]),
            &mut rgb,
        )
        .unwrap();
        assert_eq!(rgb, [10, 20, 30, 255, 255, 255]);
        decode_into(
            &write(1, 2, ColorType::GrayscaleAlpha, &[40, 255, 100, 128]),
            &mut rgb,
        )
        .unwrap();
        assert_eq!(rgb, [40, 40, 40, 177, 177, 177]);
    }

    #[test]
    fn damage_is_an_error() {
        let file = encode(3, 3, &[5; 27]).unwrap();
        assert!(decode_into(&file, &mut [0; 26]).is_err());
        assert!(decode_into(&file[..file.len() / 2], &mut [0; 27]).is_err());
        assert!(encode(3, 3, &[0; 26]).is_err() && size(b"GIF89a").is_err());
    }
}
