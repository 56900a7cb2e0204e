//! Programs of the kernel's packet filter, as they are put together and looked at.
//!
//! The classic language (McCanne and Jacobson, "The BSD Packet Filter", 1993): an accumulator A, an
//! index X, sixteen cells of memory, jumps ahead only.

/// One instruction, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// A number: an offset, a constant, a distance.
    pub k: u32,
}

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// Loads and arithmetic, by their codes in the kernel's header.
pub(super) mod code {
    pub(in super::super) const LOAD_WORD: u16 = 0x40;
    pub(in super::super) const LOAD_HALF: u16 = 0x48;
    pub(in super::super) const LOAD_BYTE: u16 = 0x50;
    pub(in super::super) const ASK: u16 = 0x20;
    pub(in super::super) const LOAD_CONSTANT: u16 = 0x00;
    pub(in super::super) const INDEX_CONSTANT: u16 = 0x01;
    pub(in super::super) const LOAD_CELL: u16 = 0x60;
    pub(in super::super) const INDEX_CELL: u16 = 0x61;
    pub(in super::super) const STORE: u16 = 0x02;
    pub(in super::super) const LENGTH: u16 = 0x80;
    pub(in super::super) const SUBTRACT_INDEX: u16 = 0x1c;
    pub(in super::super) const ADD: u16 = 0x04;
    pub(in super::super) const ADD_INDEX: u16 = 0x0c;
    pub(in super::super) const MULTIPLY: u16 = 0x24;
    pub(in super::super) const AND: u16 = 0x54;
    pub(in super::super) const SHIFT_LEFT: u16 = 0x64;
    pub(in super::super) const SHIFT_RIGHT: u16 = 0x74;
    pub(in super::super) const XOR_INDEX: u16 = 0xac;
    pub(in super::super) const JUMP: u16 = 0x05;
    pub(in super::super) const IF_EQUAL: u16 = 0x15;
    pub(in super::super) const IF_GREATER: u16 = 0x25;
    pub(in super::super) const IF_ANY_BIT: u16 = 0x45;
    pub(in super::super) const RETURN: u16 = 0x06;
    pub(in super::super) const RETURN_A: u16 = 0x16;
    pub(in super::super) const TO_INDEX: u16 = 0x07;
    pub(in super::super) const FROM_INDEX: u16 = 0x87;
}

/// A place in a program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Puts a program together. Comparisons reach 255 instructions far and plain jumps everywhere, so
/// each comparison here skips a plain jump or takes it.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    program: Vec<Instruction>,
    /// Where each label stands, once it does.
    places: Vec<Option<usize>>,
    /// Plain jumps, and the labels that they lead to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label that stands nowhere yet.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Puts a label here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.program.len());
    }

    /// Adds an instruction.
    pub(super) fn put(&mut self, code: u16, k: u32) {
        self.program.push(Instruction { code, jt: 0, jf: 0, k });
    }

    /// Goes to a label.
    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.program.len(), to));
        self.put(code::JUMP, 0);
    }

    /// Goes to a label if the comparison of A with `k` holds.
    pub(super) fn jump_if(&mut self, comparison: u16, k: u32, to: Label) {
        self.program.push(Instruction { code: comparison, jt: 0, jf: 1, k });
        self.jump(to);
    }

    /// Goes to a label unless the comparison of A with `k` holds.
    pub(super) fn jump_unless(&mut self, comparison: u16, k: u32, to: Label) {
        self.program.push(Instruction { code: comparison, jt: 1, jf: 0, k });
        self.jump(to);
    }

    /// The program.
    ///
    /// # Panics
    /// When a jump leads nowhere or back, or the program is longer than the kernel takes.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let to = self.places[label.0].expect("a label that is jumped to is placed");
            let skip = to.checked_sub(at + 1).expect("jumps lead ahead");
            self.program[at].k = skip as u32;
        }
        assert!(self.program.len() <= MOST_INSTRUCTIONS, "{} instructions", self.program.len());
        self.program
    }
}

/// A program that keeps nothing.
#[must_use]
pub fn nothing() -> Vec<Instruction> {
    vec![Instruction { code: code::RETURN, jt: 0, jf: 0, k: 0 }]
}

/// A program that keeps the first bytes of every frame.
#[must_use]
pub fn everything(snap_bytes: u32) -> Vec<Instruction> {
    vec![Instruction { code: code::RETURN, jt: 0, jf: 0, k: snap_bytes }]
}

/// The same program for frames that come, and none for those that this machine sends.
pub(super) fn of_incoming(program: &[Instruction]) -> Vec<Instruction> {
    let kind = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    let outgoing = libc::PACKET_OUTGOING.into();
    let mut whole = vec![
        Instruction { code: code::ASK, jt: 0, jf: 0, k: kind },
        Instruction { code: code::IF_EQUAL, jt: 0, jf: 1, k: outgoing },
    ];
    whole.extend(nothing());
    // A program begins with A and X at 0.
    whole.push(Instruction { code: code::LOAD_CONSTANT, jt: 0, jf: 0, k: 0 });
    whole.extend(program);
    whole
}

/// The same program, but for the bytes that it keeps of a frame.
pub(super) fn with_snap(mut program: Vec<Instruction>, snap_bytes: u32) -> Vec<Instruction> {
    let accepting = |one: &&mut Instruction| one.code == code::RETURN && one.k > 0;
    program.iter_mut().filter(accepting).for_each(|one| one.k = snap_bytes);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_frame_is_set_where_one_is_kept() {
        let mut program = nothing();
        program.extend(everything(7));
        let snap: Vec<u32> = with_snap(program, 99).iter().map(|one| one.k).collect();
        assert_eq!(snap, [0, 99]);
    }

    #[test]
    fn what_is_sent_meets_the_answer_0_before_the_program() {
        let program = of_incoming(&everything(9));
        assert_eq!(program[program.len() - 1], everything(9)[0]);
        // Not outgoing: over the answer.
        let branch = program[1];
        assert_eq!((branch.code, branch.jt, branch.jf, branch.k), (code::IF_EQUAL, 0, 1, 4));
        assert_eq!(program[2], nothing()[0]);
    }
}
