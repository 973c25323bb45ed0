//! Who writes which bank in this cycle: the execute controller, then loaded rows, then zeros.

use super::Scratchpad;
use super::wires::{AccWriteRequest, BankWrites, EX, MVIN, ZERO};
use crate::dma::mvin_path::{MvinHeads, MvinTaken};
use crate::memories::accumulator_mem::WriteAddress;
use crate::parts::banks::{BankId, acc_place, spad_place};
use crate::parts::values::Values;
use crate::parts::wires::{ExTarget, ExWrite};

impl<V: Values> Scratchpad<V> {
    /// The execute controller's write, which comes first everywhere, and no other yet.
    #[inline]
    pub(crate) fn drive_ex_write(&self, ex_write: &ExWrite<V>, writes: &mut BankWrites) {
        *writes = BankWrites::default();
        match ex_write.target {
            Some(ExTarget::Spad { bank, .. }) => writes.write_spad(EX, bank),
            Some(ExTarget::Acc { bank, row, accumulate, .. }) => {
                writes.write_acc(EX, self.acc_request(bank, WriteAddress { row, accumulate }));
            }
            None => {}
        }
    }

    /// Which rows of the mvin path are written into a bank.
    pub(crate) fn mvin_bank_writes(&self, heads: &MvinHeads, writes: &mut BankWrites, taken: &mut MvinTaken) {
        if heads.narrow.is_some() || heads.wide.is_some() {
            self.mvin_writes(heads, writes, taken);
        }
        if heads.zero.is_some() {
            self.zero_write(heads, writes, taken);
        }
    }

    fn acc_request(&self, bank: BankId, address: WriteAddress) -> AccWriteRequest {
        AccWriteRequest { bank, address, fires: self.acc_banks[bank.index()].write_ready(address) }
    }

    /// The loaded row for the accumulator: a narrow one hides a wide one, whatever their banks.
    fn mvin_acc_row(&self, heads: &MvinHeads) -> Option<(BankId, WriteAddress)> {
        let (laddr, tag) = match (&heads.narrow, &heads.wide) {
            (Some(row), _) if row.tag.is_acc => (row.laddr, &row.tag),
            (_, Some(row)) if row.tag.is_acc => (row.laddr, &row.tag),
            _ => return None,
        };
        let (bank, row) = acc_place(laddr, self.layout);
        Some((bank, WriteAddress { row, accumulate: tag.accumulate }))
    }

    fn mvin_writes(&self, heads: &MvinHeads, writes: &mut BankWrites, taken: &mut MvinTaken) {
        let narrow = heads.narrow.as_ref();
        if let Some(row) = narrow.filter(|row| !row.tag.is_acc) {
            let (bank, _) = spad_place(row.laddr, self.layout);
            if writes.spad[EX] != Some(bank) {
                writes.write_spad(MVIN, bank);
                taken.narrow = true;
            }
        }
        let Some((bank, address)) = self.mvin_acc_row(heads) else { return };
        let ex = writes.acc[EX].is_some_and(|request| request.bank == bank);
        if ex || spad_last(heads) || self.is_blocked(bank) {
            return;
        }
        let request = self.acc_request(bank, address);
        writes.write_acc(MVIN, request);
        match narrow {
            Some(row) if row.tag.is_acc => taken.narrow = request.fires,
            _ => taken.wide = request.fires,
        }
    }

    fn zero_write(&self, heads: &MvinHeads, writes: &mut BankWrites, taken: &mut MvinTaken) {
        let last = heads.narrow.as_ref().is_some_and(|row| row.last) || heads.wide.as_ref().is_some_and(|row| row.last);
        let Some(row) = heads.zero.as_ref().filter(|_| !last) else { return };
        if !row.laddr.is_acc() {
            let (bank, _) = spad_place(row.laddr, self.layout);
            if !writes.spad_banks.has(bank) {
                writes.write_spad(ZERO, bank);
                taken.zero = true;
            }
            return;
        }
        let (bank, bank_row) = acc_place(row.laddr, self.layout);
        let mvin = self.mvin_acc_row(heads);
        let ex = writes.acc[EX].is_some_and(|request| request.bank == bank);
        if ex || mvin.is_some_and(|(mvin_bank, _)| mvin_bank == bank) || self.is_blocked(bank) {
            return;
        }
        // Row and flag are selected by "a loaded row waits for an accumulator", without comparing the banks.
        let own = WriteAddress { row: bank_row, accumulate: row.laddr.accumulate() };
        let request = self.acc_request(bank, mvin.map_or(own, |(_, address)| address));
        writes.write_acc(ZERO, request);
        taken.zero = request.fires;
    }

    fn is_blocked(&self, bank: BankId) -> bool {
        self.consecutive_write_block.has(bank)
    }
}

/// A loaded row that ends its packet is shown for the scratchpad.
fn spad_last(heads: &MvinHeads) -> bool {
    heads.narrow.as_ref().is_some_and(|row| row.last && !row.tag.is_acc)
}
