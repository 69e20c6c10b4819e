//! Nearest neighbour, in Pillow's two ways of finding it.

use super::resize::Request;

/// Steps through the source by adding up the scale, as Pillow does for 8-bit modes; the rounding errors of the sum
/// are part of the result.
pub(super) fn stepped(data: &[u8], channels: usize, request: &Request) -> Vec<u8> {
    let [rows, columns] = [0, 1].map(|axis| {
        let scale = request.from[axis] as f64 / request.to[axis] as f64;
        let mut at = scale * 0.5;
        let mut indices = Vec::with_capacity(request.window[axis]);
        for output in 0..request.origin[axis] + request.window[axis] {
            if output >= request.origin[axis] {
                indices.push(at as usize);
            }
            at += scale;
        }
        indices
    });
    let [height, width] = request.from;
    let mut out = vec![0; rows.len() * columns.len() * channels];
    for (y, row) in rows.iter().zip(out.chunks_exact_mut(columns.len() * channels)) {
        for (x, pixel) in columns.iter().zip(row.chunks_exact_mut(channels)) {
            // An error of the sum can carry the last step past the source: 0 there.
            if *y < height && *x < width {
                pixel.copy_from_slice(&data[(y * width + x) * channels..][..channels]);
            }
        }
    }
    out
}

/// Multiplies the scale, as Pillow does for 16-bit grey.
pub(super) fn multiplied(data: &[u16], request: &Request) -> Vec<u16> {
    let [height, width] = request.from;
    let [rows, columns] = [0, 1].map(|axis| {
        let scale = request.from[axis] as f64 / request.to[axis] as f64;
        let window = request.origin[axis]..request.origin[axis] + request.window[axis];
        window
            .map(|output| (scale * (output as f64 + 0.5)) as usize)
            .collect::<Vec<_>>()
    });
    let at = |y: usize, x: usize| {
        if y < height && x < width {
            data[y * width + x]
        } else {
            0
        }
    };
    rows.iter()
        .flat_map(|&y| columns.iter().map(move |&x| at(y, x)))
        .collect()
}
