// Rows of the scratchpad, the accumulator, or of a buffer in main memory.

import { find, h } from "./dom";
import type { BufferInfo, LineResult, Program } from "./protocol";

/** Rows that are shown at once. */
const ROWS = 16;
/** Columns of a buffer that are shown. */
const COLUMNS = 64;

export class MemoriesPane {
  private readonly what = find<HTMLSelectElement>("memory-what");
  private readonly first = find<HTMLInputElement>("memory-row");
  private readonly table = find("memory");
  private readonly note = find("memory-note");
  private program: Program | undefined;
  /** The rows shown last, and of what they are. */
  private before: { of: string; rows: number[][] } | undefined;

  constructor(
    private readonly line: (text: string) => Promise<LineResult>,
    changed: () => void,
  ) {
    this.what.addEventListener("change", () => {
      this.first.value = String(this.start());
      changed();
    });
    this.first.addEventListener("change", changed);
    find("memory-up").addEventListener("click", () => this.move(-ROWS, changed));
    find("memory-down").addEventListener("click", () => this.move(ROWS, changed));
  }

  private move(rows: number, changed: () => void): void {
    this.first.value = String(Math.max(0, (Number(this.first.value) || 0) + rows));
    changed();
  }

  load(program: Program): void {
    this.program = program;
    this.before = undefined;
    const regions = program.regions.map((region) => {
      const kind = region.accumulator ? "acc" : "spad";
      return h("option", { value: `${kind}:${region.row}` }, `${kind} ${region.name} (${region.rows} rows from ${region.row})`);
    });
    const buffers = program.buffers.map((buffer) => h("option", { value: `mem:${buffer.name}` }, `memory ${buffer.name}: ${buffer.element}[${buffer.shape.join(", ")}]`));
    this.what.replaceChildren(h("option", { value: "spad:0" }, "scratchpad"), h("option", { value: "acc:0" }, "accumulator"), ...regions, ...buffers);
    this.first.value = "0";
  }

  private start(): number {
    const [kind, row] = this.what.value.split(":");
    return kind === "mem" ? 0 : Number(row);
  }

  async update(): Promise<void> {
    const program = this.program;
    if (!program) return;
    const [kind, name] = [this.what.value.slice(0, this.what.value.indexOf(":")), this.what.value.slice(this.what.value.indexOf(":") + 1)];
    const first = Math.max(0, Math.floor(Number(this.first.value) || 0));
    if (kind === "mem") {
      const buffer = program.buffers.find((of) => of.name === name);
      if (buffer) await this.buffer(buffer, first);
      return;
    }
    const most = kind === "acc" ? program.acc_rows : program.sp_rows;
    const from = Math.min(first, most - 1);
    const to = Math.min(from + ROWS, most);
    const { view } = await this.line(`view ${kind}[${from}..${to}]`);
    this.show(kind, from, (view as { rows: number[][] }).rows, `rows ${from} to ${to - 1} of ${most}`);
  }

  private async buffer(buffer: BufferInfo, first: number): Promise<void> {
    const size = buffer.element === "i8" ? 1 : 4;
    const width = buffer.shape.at(-1) ?? 1;
    const rows = width === 0 ? 0 : buffer.bytes / size / width;
    if (rows === 0) return this.show(buffer.name, 0, [], "the buffer is empty");
    const from = Math.min(first, rows - 1);
    const to = Math.min(from + ROWS, rows);
    const shown = Math.min(width, COLUMNS);
    const lines = [];
    for (let row = from; row < to; row++) {
      const start = BigInt(buffer.address) + BigInt(row * width * size);
      const { view } = await this.line(`view mem[0x${start.toString(16)}..0x${(start + BigInt(shown * size)).toString(16)}]`);
      const data = Uint8Array.from((view as { bytes: number[] }).bytes);
      lines.push([...(size === 1 ? new Int8Array(data.buffer) : new Int32Array(data.buffer))]);
    }
    const columns = shown < width ? `, the first ${shown} of ${width} columns` : "";
    this.show(buffer.name, from, lines, `rows ${from} to ${to - 1} of ${rows} from ${buffer.address}${columns}`);
  }

  private show(of: string, first: number, rows: number[][], note: string): void {
    const key = `${of}:${first}`;
    const before = this.before?.of === key ? this.before.rows : undefined;
    this.table.replaceChildren(
      ...rows.map((row, i) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, String(first + i)),
          ...row.map((value, j) => {
            const changed = before !== undefined && before[i]?.[j] !== value;
            return h("td", { class: `${value === 0 ? "zero" : ""} ${changed ? "changed" : ""}`.trim() }, String(value));
          }),
        ),
      ),
    );
    this.before = { of: key, rows };
    this.note.textContent = note;
  }
}
