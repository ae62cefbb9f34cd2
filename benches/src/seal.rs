//! Shows what a piece of code does not do, by having the kernel end the process if it does it: write to memory that
//! was shared before, or make a system call. Linux on x86-64 and AArch64.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{mem, ptr};

const ARENA: usize = 1 << 20;

static BASE: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
static OPEN: AtomicBool = AtomicBool::new(false);

/// An allocator that puts everything into one arena while the arena is open, and leaves it there.
pub struct Arena;

/// Lets all allocations of all threads go to the arena from now on.
///
/// # Panics
/// If the system has no memory.
pub fn open_arena() {
    // SAFETY: maps new memory and touches none that exists.
    let base = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(ptr::null_mut(), ARENA, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    assert_ne!(base, libc::MAP_FAILED, "no memory for the arena");
    BASE.store(base as usize, Ordering::SeqCst);
    OPEN.store(true, Ordering::SeqCst);
}

/// Lets allocations go to the system's allocator again.
pub fn close_arena() {
    OPEN.store(false, Ordering::SeqCst);
}

/// Makes everything in the arena read-only: the next write to it ends the process with SIGSEGV.
///
/// # Panics
/// If the system refuses.
pub fn freeze_arena() {
    // SAFETY: the arena is ours alone; that later writes fail is the purpose. Without the standard library's handler, which
    // makes system calls, the write itself is what ends the process.
    let answer = unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::mprotect(BASE.load(Ordering::SeqCst) as *mut _, ARENA, libc::PROT_READ)
    };
    assert_eq!(answer, 0, "mprotect: {}", Error::last_os_error());
}

/// Returns how many bytes are in the arena.
pub fn arena_bytes() -> usize {
    USED.load(Ordering::SeqCst)
}

// SAFETY: hands out disjoint parts of the arena, or passes the call to the system's allocator unchanged; what is in the
// arena is never handed out again.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !OPEN.load(Ordering::SeqCst) {
            // SAFETY: the caller keeps the contract of `alloc`.
            return unsafe { System.alloc(layout) };
        }
        let align = layout.align();
        let place = USED.fetch_add(layout.size() + align, Ordering::SeqCst);
        if place + layout.size() + align > ARENA {
            return ptr::null_mut();
        }
        ((BASE.load(Ordering::SeqCst) + place).next_multiple_of(align)) as *mut u8
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let base = BASE.load(Ordering::SeqCst);
        if base == 0 || !(base..base + ARENA).contains(&(memory as usize)) {
            // SAFETY: it came from the system's allocator.
            unsafe { System.dealloc(memory, layout) }
        }
    }
}

/// Forbids the calling thread every system call but the two that end it: any other ends the process with SIGSYS.
///
/// # Panics
/// If the kernel knows no seccomp.
pub fn forbid_system_calls() {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // SAFETY: these two only fill in a struct.
    let mut program = unsafe {
        [
            libc::BPF_STMT(load as u16, mem::offset_of!(libc::seccomp_data, nr) as u32),
            libc::BPF_JUMP(equal as u16, libc::SYS_exit as u32, 2, 0),
            libc::BPF_JUMP(equal as u16, libc::SYS_exit_group as u32, 1, 0),
            libc::BPF_STMT(answer as u16, libc::SECCOMP_RET_KILL_PROCESS),
            libc::BPF_STMT(answer as u16, libc::SECCOMP_RET_ALLOW),
        ]
    };
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    assert!(!refused, "prctl: {}", Error::last_os_error());
}

/// Ends the process at once, by the one system call that is left.
pub fn end(status: i32) -> ! {
    // SAFETY: runs nothing more of this process.
    unsafe { libc::_exit(status) }
}
