//! Large memory on large pages.
//!
//! A flow table of a million flows spans tens of thousands of small pages, more than a core can
//! keep the addresses of: most look-ups then wait for the page table before they wait for the
//! memory. Linux backs a region by pages of 2 MiB when it is asked to (`madvise(MADV_HUGEPAGE)`,
//! which `/sys/kernel/mm/transparent_hugepage/enabled` must not forbid), and then one address
//! serves for 512.
//!
//! A program opts in:
//!
//! ```
//! use serveflow_io::os::huge_pages::LargePages;
//!
//! #[global_allocator]
//! static ALLOCATOR: LargePages = LargePages;
//! # fn main() {}
//! ```

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// Hands large allocations out as regions of their own, on large pages where the system has them;
/// small ones are the system allocator's. Elsewhere than on Linux it is the system allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct LargePages;

/// Bytes from which an allocation is a region of its own. Two large pages: what is smaller gains
/// little.
const LARGE: usize = 2 * region::PAGE;

/// Whether an allocation is a region. Alignment beyond a large page's is nobody's wish.
fn is_region(layout: &Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE && layout.align() <= region::PAGE
}

// SAFETY: each call goes to `region` or to `System`, and for one allocation always to the same,
// since the size and alignment that decide are those that it was made with.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_region(&layout) {
            return region::map(layout.size());
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_region(&layout) {
            // Fresh regions hold zeros.
            return region::map(layout.size());
        }
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if is_region(&layout) {
            // SAFETY: a region of this size was mapped at `ptr`, and the caller is done with it.
            return unsafe { region::unmap(ptr, layout.size()) };
        }
        // SAFETY: `System` made it, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the new size fits a layout.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (is_region(&layout), is_region(&new)) {
            // SAFETY: `System` made it, with this layout.
            (false, false) => unsafe { System.realloc(ptr, layout, new_size) },
            // SAFETY: a region of the old size was mapped at `ptr`.
            (true, true) => unsafe { region::remap(ptr, layout.size(), new_size) },
            // SAFETY: the new block is another one, and both hold the bytes that are copied.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr.copy_to_nonoverlapping(moved, layout.size().min(new_size));
                    self.dealloc(ptr, layout);
                }
                moved
            },
        }
    }
}

#[cfg(target_os = "linux")]
mod region {
    use std::ptr;

    /// Bytes of a large page.
    pub(super) const PAGE: usize = 2 << 20;

    /// Whole large pages that hold so many bytes; `None` when no address space does.
    fn whole(size: usize) -> Option<usize> {
        size.checked_next_multiple_of(PAGE).filter(|size| isize::try_from(*size).is_ok())
    }

    /// A zeroed region that begins with a large page; null when it is refused.
    pub(super) fn map(size: usize) -> *mut u8 {
        let Some((size, wider)) =
            whole(size).and_then(|size| Some((size, size.checked_add(PAGE)?)))
        else {
            return ptr::null_mut();
        };
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping touches no memory that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), wider, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(PAGE);
        let region = start.wrapping_add(before);
        // SAFETY: both ends lie in the mapping above, and nobody uses them.
        unsafe {
            if before > 0 {
                libc::munmap(start.cast(), before);
            }
            libc::munmap(region.wrapping_add(size).cast(), PAGE - before);
        }
        advise(region, size);
        region
    }

    /// Asks for large pages; where there are none, small ones do.
    fn advise(region: *mut u8, size: usize) {
        // SAFETY: the region is mapped, and the advice changes none of its bytes.
        unsafe { libc::madvise(region.cast(), size, libc::MADV_HUGEPAGE) };
    }

    /// # Safety
    /// A region of `size` bytes was mapped at `region`, and is used no more.
    pub(super) unsafe fn unmap(region: *mut u8, size: usize) {
        // SAFETY: as guaranteed.
        unsafe { libc::munmap(region.cast(), whole(size).expect("it was mapped")) };
    }

    /// Moves a region's pages, not its bytes, to where the new size has room; null when it is
    /// refused.
    ///
    /// # Safety
    /// A region of `size` bytes was mapped at `region`; it is used no more unless null is returned.
    pub(super) unsafe fn remap(region: *mut u8, size: usize, new_size: usize) -> *mut u8 {
        let (Some(old), Some(new)) = (whole(size), whole(new_size)) else {
            return ptr::null_mut();
        };
        if old == new {
            return region;
        }
        let target = map(new_size);
        if target.is_null() {
            return target;
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both are regions of ours; the kernel replaces the target by the old one, resized.
        let moved = unsafe { libc::mremap(region.cast(), old, new, flags, target) };
        if moved == libc::MAP_FAILED {
            // SAFETY: the target was mapped above, and nobody knows of it.
            unsafe { unmap(target, new_size) };
            return ptr::null_mut();
        }
        advise(target, new);
        target
    }
}

#[cfg(not(target_os = "linux"))]
mod region {
    pub(super) const PAGE: usize = 2 << 20;

    pub(super) fn map(_: usize) -> *mut u8 {
        unreachable!("no allocation is a region here")
    }

    pub(super) unsafe fn unmap(_: *mut u8, _: usize) {
        unreachable!("no allocation is a region here")
    }

    pub(super) unsafe fn remap(_: *mut u8, _: usize, _: usize) -> *mut u8 {
        unreachable!("no allocation is a region here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Fills the ends and the middle of a block with `mark`, or holds them to it.
    fn ends(block: *mut u8, size: usize) -> [*mut u8; 3] {
        [0, size / 2, size - 1].map(|at| block.wrapping_add(at))
    }

    #[test]
    fn blocks_of_all_sizes_keep_their_bytes_as_they_grow_and_shrink() {
        let sizes = [1, 4_000, 3 * MIB, 4 * MIB - 1, 4 * MIB, 5 * MIB, 64 * MIB, 9 * MIB, 7];
        for align in [1, 64, 4_096] {
            let mut layout = Layout::from_size_align(sizes[0], align).unwrap();
            // SAFETY: the sizes are not 0, and each block is used within its size until it is
            // freed.
            unsafe {
                let mut block = LargePages.alloc(layout);
                block.write(0);
                for (mark, &size) in (1..).zip(&sizes[1..]) {
                    let kept = *block;
                    block = LargePages.realloc(block, layout, size);
                    assert!(!block.is_null() && block.addr().is_multiple_of(align));
                    assert_eq!(*block, kept, "the first byte came along");
                    layout = Layout::from_size_align(size, align).unwrap();
                    ends(block, size).into_iter().for_each(|at| at.write(mark));
                    assert!(ends(block, size).into_iter().all(|at| *at == mark));
                }
                LargePages.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn zeroed_blocks_are_zeroed_though_the_memory_was_used() {
        for size in [100, 6 * MIB] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            for _ in 0..3 {
                // SAFETY: as above.
                unsafe {
                    let block = LargePages.alloc_zeroed(layout);
                    assert!(ends(block, size).into_iter().all(|at| *at == 0));
                    block.write_bytes(0xff, size);
                    LargePages.dealloc(block, layout);
                }
            }
        }
    }

    #[test]
    fn what_no_machine_has_is_refused_and_what_there_was_stays() {
        let huge = Layout::from_size_align(isize::MAX as usize - 4_096, 8).unwrap();
        let layout = Layout::from_size_align(8 * MIB, 8).unwrap();
        // SAFETY: as above.
        unsafe {
            assert!(LargePages.alloc(huge).is_null());
            let block = LargePages.alloc(layout);
            block.write(7);
            assert!(LargePages.realloc(block, layout, huge.size()).is_null());
            assert_eq!(*block, 7);
            LargePages.dealloc(block, layout);
        }
    }
}
