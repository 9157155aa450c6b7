//! The geometry of a window that slides over a plane: kernel, stride, padding, dilation.
//! What is computed under the window is up to convolutions and poolings.

/// A window over a plane; every pair is vertical, horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window2d {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Zeros (in a pooling: nothing) on both sides of the plane.
    pub padding: [usize; 2],
    /// Distance between neighbouring positions of the kernel.
    pub dilation: [usize; 2],
}

impl Window2d {
    /// A square kernel that moves by one position, without padding.
    pub fn square(kernel: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
        }
    }

    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Self {
            stride: [stride; 2],
            ..self
        }
    }

    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Self {
            padding: [padding; 2],
            ..self
        }
    }

    #[must_use]
    pub fn dilation(self, dilation: usize) -> Self {
        Self {
            dilation: [dilation; 2],
            ..self
        }
    }

    /// Positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Rows (axis 0) or columns (axis 1) between the first and the last position of the kernel.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis]
    }

    /// Places of the window on a plane of this height and width; `None` if it does not fit even once.
    pub(crate) fn places(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut places = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + 2 * self.padding[axis];
            let free = padded.checked_sub(self.reach(axis) + 1)?;
            places[axis] = free / self.stride[axis] + 1;
        }
        Some(places)
    }

    /// The plane that a transposed convolution makes of this many places, with rows and columns added at its end.
    pub(crate) fn plane(&self, places: [usize; 2], added: [usize; 2]) -> Option<[usize; 2]> {
        let mut size = [0; 2];
        for axis in 0..2 {
            let strides = places[axis].checked_sub(1)? * self.stride[axis];
            let full = strides + self.reach(axis) + 1 + added[axis];
            size[axis] = full.checked_sub(2 * self.padding[axis])?;
        }
        (size[0] > 0 && size[1] > 0).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_formulas_of_pytorch() {
        let stem = Window2d::square(7).stride(2).padding(3);
        assert_eq!(stem.places([224, 225]), Some([112, 113]));
        assert_eq!(
            Window2d::square(3).stride(2).padding(1).places([112, 1]),
            Some([56, 1])
        );
        assert_eq!(Window2d::square(3).dilation(2).places([7, 4]), None);
        let up = Window2d::square(3).stride(2).padding(1);
        assert_eq!(up.plane([4, 7], [1, 0]), Some([8, 13]));
        assert_eq!(up.plane([0, 7], [0, 0]), None);
    }
}
