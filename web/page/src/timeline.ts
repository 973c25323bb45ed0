// Blocks and commands over time, with a cursor at the present cycle.

import { colour, find, grouped, prepare } from "./dom";
import type { CommandSpan, Overview } from "./protocol";

const LABELS = 118;
const BLOCK = 12;
const COMMAND = 10;
const AXIS = 16;
/** Lines of commands at most: as many as the largest reservation station has entries. */
const LINES = 40;
/** Cycles of a run that are looked at as a whole. */
export const WHOLE = 2_000_000;
const CLOSEST = 16;

export class TimelinePane {
  readonly canvas = find<HTMLCanvasElement>("timeline");
  private readonly detail = find("timeline-detail");
  private overview: Overview | undefined;
  private lines: CommandSpan[][] = [];
  private cycle = 0;
  private from = 0;
  private to = 1;
  private end = 1;

  constructor(
    private readonly fetch: (from: number, to: number, buckets: number) => void,
    private readonly goto: (cycle: number) => void,
  ) {
    find("zoom-in").addEventListener("click", () => this.zoom(0.5));
    find("zoom-out").addEventListener("click", () => this.zoom(2));
    find("zoom-all").addEventListener("click", () => this.window(0, Math.min(this.end, WHOLE)));
    this.canvas.addEventListener("click", (event) => {
      const cycle = this.cycleAt(event.offsetX);
      if (cycle !== null) this.goto(cycle);
    });
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.5 : 1 / 1.5);
    }, { passive: false });
    this.canvas.addEventListener("mousemove", (event) => this.tell(event.offsetX, event.offsetY));
    this.canvas.addEventListener("mouseleave", () => this.tell(-1, -1));
    this.canvas.addEventListener("keydown", (event) => {
      if (event.key === "+" || event.key === "=") this.zoom(0.5);
      else if (event.key === "-") this.zoom(2);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** A new program, or its end is known. */
  extent(end: number): void {
    this.end = Math.max(end, 1);
    this.window(0, Math.min(this.end, WHOLE));
  }

  private plot(): number {
    return Math.max(64, (this.canvas.clientWidth || 800) - LABELS);
  }

  private window(from: number, to: number): void {
    const length = Math.min(Math.max(to - from, CLOSEST), this.end, WHOLE);
    this.from = Math.max(0, Math.min(Math.round(from), this.end - length));
    this.to = this.from + Math.round(length);
    this.fetch(this.from, this.to, Math.floor(this.plot() / 2));
  }

  private zoom(factor: number): void {
    const length = (this.to - this.from) * factor;
    // The cursor stays where it is.
    const share = (this.cycle - this.from) / (this.to - this.from);
    const from = this.cycle - length * Math.min(1, Math.max(0, share));
    this.window(from, from + length);
  }

  show(overview: Overview): void {
    this.overview = overview;
    this.lines = pack(overview.commands);
    this.draw();
  }

  cursor(cycle: number): void {
    this.cycle = cycle;
    const length = this.to - this.from;
    if ((cycle < this.from || cycle >= this.to) && cycle < this.end) this.window(cycle - length / 2, cycle + length / 2);
    else this.draw();
  }

  private x(cycle: number): number {
    return LABELS + ((cycle - this.from) / (this.to - this.from)) * this.plot();
  }

  private cycleAt(x: number): number | null {
    if (x < LABELS) return null;
    return Math.min(this.end, this.from + Math.floor(((x - LABELS) / this.plot()) * (this.to - this.from)));
  }

  draw(): void {
    const overview = this.overview;
    if (!overview) return;
    const blocks = overview.blocks.length;
    const lines = Math.min(LINES, this.lines.length);
    const height = AXIS + blocks * BLOCK + 8 + Math.max(1, lines) * COMMAND + 2;
    const context = prepare(this.canvas, LABELS + this.plot(), height);
    context.textBaseline = "middle";
    this.drawAxis(context, height);
    overview.blocks.forEach((block, index) => this.drawBlock(context, block.block, block.buckets, AXIS + index * BLOCK));
    const top = AXIS + blocks * BLOCK + 8;
    context.fillStyle = colour("soft");
    context.textAlign = "left";
    context.font = "10px system-ui, sans-serif";
    context.fillText("commands", 2, top + COMMAND / 2);
    if (overview.left_out > 0) context.fillText(`(${grouped(overview.left_out)} left out)`, 2, top + COMMAND * 1.6);
    this.lines.slice(0, LINES).forEach((line, index) => this.drawCommands(context, line, top + index * COMMAND));
    const x = Math.round(this.x(this.cycle + 0.5));
    context.fillStyle = colour("focus");
    context.fillRect(x - 1, 0, 2, height);
    this.canvas.setAttribute(
      "aria-label",
      `Timeline of blocks and commands from cycle ${this.from} to ${this.to}, cursor at cycle ${this.cycle}. Plus and minus zoom; the arrow keys step.`,
    );
  }

  private drawAxis(context: CanvasRenderingContext2D, height: number): void {
    const length = this.to - this.from;
    const rough = length / (this.plot() / 110);
    const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
    const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((of) => of >= rough) ?? power);
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    for (let cycle = Math.ceil(this.from / step) * step; cycle < this.to; cycle += step) {
      const x = this.x(cycle);
      context.fillStyle = colour("line");
      context.fillRect(x, AXIS - 3, 1, height);
      context.fillStyle = colour("faint");
      if (x > LABELS + 16) context.fillText(grouped(cycle), x, AXIS / 2);
    }
  }

  private drawBlock(context: CanvasRenderingContext2D, name: string, buckets: Overview["blocks"][number]["buckets"], y: number): void {
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "left";
    context.fillStyle = colour("soft");
    context.fillText(name.replaceAll("_", " "), 2, y + BLOCK / 2);
    const width = this.plot() / buckets.length;
    const states = ["busy", "draining", "stalled"] as const;
    buckets.forEach((bucket, index) => {
      const all = bucket.idle + bucket.busy + bucket.draining + bucket.stalled;
      let bottom = y + BLOCK - 1;
      for (const state of states) {
        const part = ((BLOCK - 2) * bucket[state]) / all;
        if (part <= 0) continue;
        context.fillStyle = colours[state];
        context.fillRect(LABELS + index * width, bottom - part, Math.max(width, 1), part);
        bottom -= part;
      }
    });
  }

  private drawCommands(context: CanvasRenderingContext2D, line: CommandSpan[], y: number): void {
    for (const command of line) {
      for (const { stage, start, end } of command.stages) {
        const left = Math.max(this.x(start), LABELS);
        const right = Math.min(this.x(end), LABELS + this.plot());
        if (right <= left) continue;
        context.fillStyle = stage === "X" ? colours[command.unit] : colours[stage];
        const thin = stage === "Q" || stage === "W";
        context.fillRect(left, y + (thin ? 3 : 1), Math.max(right - left, 0.5), thin ? COMMAND - 6 : COMMAND - 2);
      }
    }
  }

  /** What is under the pointer. */
  private tell(x: number, y: number): void {
    const cycle = this.cycleAt(x);
    const overview = this.overview;
    if (cycle === null || !overview || y < 0) {
      this.detail.textContent = "";
      return;
    }
    const top = AXIS + overview.blocks.length * BLOCK + 8;
    const block = overview.blocks[Math.floor((y - AXIS) / BLOCK)];
    if (y < top && block) {
      const share = (cycle - overview.from) / (overview.to - overview.from);
      const bucket = block.buckets[Math.floor(share * block.buckets.length)];
      const all = bucket ? bucket.idle + bucket.busy + bucket.draining + bucket.stalled : 1;
      const percent = (part: number): string => `${Math.round((100 * part) / all)} %`;
      this.detail.textContent = bucket
        ? `cycle ${grouped(cycle)}: ${block.block} busy ${percent(bucket.busy)}, stalled ${percent(bucket.stalled)}, draining ${percent(bucket.draining)}`
        : "";
      return;
    }
    const line = this.lines[Math.floor((y - top) / COMMAND)];
    const command = line?.find((of) => span(of).start <= cycle && cycle < span(of).end);
    this.detail.textContent = command ? `${command.seq}: ${command.text}${stages(command)}` : `cycle ${grouped(cycle)}`;
  }

  recolour(): void {
    for (const name of Object.keys(colours)) colours[name as keyof typeof colours] = colour(name.toLowerCase());
    this.draw();
  }
}

const colours = { busy: "", draining: "", stalled: "", ld: "", ex: "", st: "", Q: "", I: "", W: "" };

function span(command: CommandSpan): { start: number; end: number } {
  return { start: command.stages[0]?.start ?? 0, end: command.stages.at(-1)?.end ?? 0 };
}

function stages(command: CommandSpan): string {
  const names = { Q: "in the station", I: "issued", X: "rows move", W: "waits for the last" };
  return command.stages.map(({ stage, start, end }) => `; ${names[stage]} ${grouped(start)}..${grouped(end)}`).join("");
}

/** Commands on as few lines as do not overlap, each class by itself. */
function pack(commands: CommandSpan[]): CommandSpan[][] {
  const all: CommandSpan[][] = [];
  for (const unit of ["ld", "ex", "st"]) {
    const lines: CommandSpan[][] = [];
    for (const command of commands.filter((of) => of.unit === unit && of.stages.length > 0)) {
      const { start } = span(command);
      const free = lines.find((line) => span(line.at(-1) as CommandSpan).end <= start);
      if (free) free.push(command);
      else lines.push([command]);
    }
    all.push(...lines);
  }
  return all;
}
