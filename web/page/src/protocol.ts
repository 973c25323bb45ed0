// What the worker is asked for and what it answers: the requests of web/emulator/src/request.rs.

export interface Setup {
  memory: string;
  interval: number;
  processor: string;
  page_walk: number;
}

export type Request =
  | { do: "about" }
  | { do: "assemble"; name: string; text: string; config: string }
  | { do: "load"; name: string; text?: string; config: string; setup: Setup }
  | { do: "advance"; cycles: number }
  | { do: "line"; text: string }
  | { do: "frame"; heat: number }
  | { do: "overview"; from: number; to: number; buckets: number; commands: number }
  | { do: "lab"; number: number; seed: number }
  | { do: "check"; number: number; text: string; seeds: number[] };

export interface Diagnostic {
  message: string;
  file: string;
  line: number;
  column: number;
  length: number;
  help: string | null;
  remarks: string[];
}

export interface Fault {
  message: string;
  diagnostics?: Diagnostic[];
}

export interface About {
  version: string;
  configurations: string[];
  labs: { number: number; title: string; goal: string }[];
}

export interface Assembled {
  commands: number;
  warnings: string[];
}

export interface BufferInfo {
  name: string;
  address: string;
  element: "i8" | "i32";
  shape: number[];
  bytes: number;
}

export interface RegionInfo {
  name: string;
  accumulator: boolean;
  row: number;
  rows: number;
}

export interface Program {
  config: string;
  dim: number;
  sp_rows: number;
  acc_rows: number;
  commands: number;
  buffers: BufferInfo[];
  regions: RegionInfo[];
  items: string[];
}

export interface Loaded {
  program: Program;
  warnings: string[];
  binary: boolean;
  text: string | null;
}

export interface Place {
  cycle: number;
  ended: boolean;
  end: number | null;
  error: string | null;
  /** At the end: what is not as the program expects. */
  differs: string[];
  totals: {
    cycles: number;
    busy_falls: number;
    busy_cycles: number;
    commands: number;
    traffic: Record<string, number>;
  };
}

export interface Block {
  block: string;
  state: "idle" | "busy" | "draining" | "stalled";
  cause: string | null;
  cycles: number;
  history: string;
}

export interface Command {
  text: string;
  parent: number | null;
  seq: number | null;
}

export interface Entry {
  unit: "ld" | "ex" | "st";
  entry: number;
  command: Command;
  issued: boolean;
  offered: boolean;
  waits_for: number[];
}

export interface Move {
  state: string;
  queue: [string, number | null][];
  row: number;
  rows: number;
  tracker: { id: number; seq: number | null; left: number }[];
}

export interface Engine {
  active: boolean;
  bytes_done: number;
  transactions: { id: number; seq: number | null; row: number | null; accumulator: boolean; bytes: number }[];
}

export interface View {
  cycle: number;
  busy: boolean;
  accepted: number;
  ended: boolean;
  operation: { number: number; name: string } | null;
  host: { item: number; position: string; next: string[] };
  blocks: Block[];
  events: string[];
  front_end: { raw: Command[]; unrolled: Command[] };
  station: { load: Entry[]; execute: Entry[]; store: Entry[] };
  load: Move;
  execute: { state: string; dataflow: string; queue: Command[]; entered: number; total_rows: number | null; in_array: number };
  store: Move;
  reader: Engine;
  writer: Engine;
  tlb: { pages: number[]; walks: [number, number][] };
  port: { client_a: number[]; client_d: number[]; port_a: number; port_d: number; in_flight: number };
}

export interface ArrayView {
  cycle: number;
  dim: number;
  c1: number[][];
  c2: number[][];
  computes_with: number[][];
  valid: boolean[][];
  a: number[][];
  b: number[][];
  d: number[][];
  matrix: number[][];
  last: boolean[][];
  weight_stationary: boolean[][];
  left: (Register | null)[][];
  above: (Register | null)[][];
  below: (Register | null)[][];
  products: { matrix: number; commands: [number, string][] }[];
}

export interface Register {
  value: number;
  matrix: number;
}

export interface Heat {
  from: number;
  to: number;
  rows: number[][];
  products: number[][];
}

export interface Frame {
  place: Place;
  view: View;
  array: ArrayView;
  heat: Heat | null;
}

export interface Bucket {
  idle: number;
  busy: number;
  draining: number;
  stalled: number;
}

export interface CommandSpan {
  seq: number;
  unit: "ld" | "ex" | "st";
  text: string;
  parent: number | null;
  dependencies: number[];
  completed: number | null;
  stages: { stage: "Q" | "I" | "X" | "W"; start: number; end: number }[];
}

export interface Overview {
  from: number;
  to: number;
  blocks: { block: string; buckets: Bucket[] }[];
  commands: CommandSpan[];
  left_out: number;
}

export interface Explanation {
  subject: string;
  cycle: number;
  sentence: string;
  chain: { subject: string; state: string; cause: string | null; text: string; since: number | null; page: string | null }[];
  until: { cycle: number; text: string } | null;
  advice: string | null;
}

export interface LineResult {
  cycle: number;
  ended: boolean;
  hit?: number | null;
  view?: unknown;
  why?: Explanation;
  end?: string;
}

export interface Lab {
  number: number;
  title: string;
  goal: string;
  task: string;
  rules: string[];
  config: string;
  /** A program; none if the solution is a design. */
  starter: string | null;
  /** An answer with gaps; none if the solution is the program. */
  answer: string | null;
  memory: string | null;
}

export interface Grade {
  verdict: string;
  message: string;
  score: number | null;
  cases: number;
}

/** What `pollux page` has put into the page. */
export interface PageData {
  /** Version of the `pollux` that made the page. */
  version: string;
  name: string;
  /** Assembly text; none of a binary, which is among the files. */
  text: string | null;
  /** Contents in base64 by path. */
  files: Record<string, string>;
  /** Configuration as TOML; empty if the program names its own. */
  config: string;
  setup: Setup;
  cycle: number;
}
