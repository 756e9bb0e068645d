//! How the C library's allocator treats large buffers.
//!
//! A request's buffer may be a MiB and live as long as the chunk in memory that it became. Left alone,
//! glibc cuts such buffers from its heap once it has seen one freed, and the holes between those that
//! live longer add up: what the server held grew with the bytes that passed through it. With a
//! fixed threshold each large buffer is a mapping of its own, given back when it is freed.

/// From this many bytes on, a buffer is a mapping of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 128 << 10;

/// Free bytes at the end of the heap that are kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 4 << 20;

/// Sets the thresholds. Call first, while there is one thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "there is no safe way to tell glibc")]
pub(crate) fn set() {
    // SAFETY: two integers into the allocator's own settings, under its own lock. A refusal changes
    // nothing, so the results do not matter.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Other allocators stay as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) const fn set() {}
