// Blocks, queues, the program, the console and explanations: panes that are text.

import { find, grouped, h } from "./dom";
import type { Block, Command, Entry, Explanation, Frame, Program, View } from "./protocol";

/** Items of the program that are shown before and behind the host's. */
const AROUND = 7;

const spoken = (name: string): string => name.replaceAll("_", " ");

/** The last cycles of a block as a strip of coloured letters would be read aloud letter by letter: a picture is not. */
function strip(block: Block): HTMLElement {
  const states: Record<string, string> = { "#": "busy", "!": "stalled", "~": "draining", ".": "idle" };
  const cells = block.history.slice(-48).split("").map((letter) => h("i", { class: states[letter] ?? "idle" }));
  return h("span", { class: "strip", "aria-hidden": "true" }, ...cells);
}

export class BlocksPane {
  private readonly body = find("blocks");

  constructor(private readonly ask: (subject: string) => void) {}

  update(view: View): void {
    // Rows stay, so that the focus does.
    if (this.body.childElementCount !== view.blocks.length) {
      this.body.replaceChildren(...view.blocks.map((block) => this.row(block)));
    }
    view.blocks.forEach((block, index) => {
      const row = this.body.children[index] as HTMLElement;
      const [, state, history] = [...row.children] as HTMLElement[];
      const cycles = block.cycles >= 64 ? "64 or more" : String(block.cycles);
      row.className = block.state;
      if (state) state.textContent = `${block.state} ${cycles}${block.cause ? `: ${spoken(block.cause)}` : ""}`;
      history?.replaceChildren(strip(block));
    });
  }

  private row(block: Block): HTMLElement {
    const label = `Why is ${spoken(block.block)} as it is?`;
    const button = h("button", { type: "button", "aria-label": label, title: label, click: () => this.ask(block.block) }, spoken(block.block));
    return h("tr", {}, h("th", { scope: "row" }, button), h("td"), h("td"));
  }
}

function command({ text, seq, parent }: Command): string {
  return `${seq === null ? "" : `${seq}: `}${text}${parent === null || seq === null ? "" : `  (of ${parent})`}`;
}

function list(items: (Node | string)[]): HTMLElement {
  if (items.length === 0) return h("p", { class: "none" }, "none");
  return h("ul", {}, ...items.map((item) => h("li", {}, item)));
}

export class QueuesPane {
  private readonly root = find("queues");

  constructor(private readonly ask: (subject: string) => void) {}

  private entry(entry: Entry): HTMLElement {
    const state = entry.issued ? "issued" : entry.offered ? "offered" : "waits";
    const on = entry.waits_for.length > 0 ? ` for ${entry.waits_for.join(", ")}` : "";
    const subject = `command ${entry.command.seq ?? 0}`;
    const button = h(
      "button",
      { type: "button", class: "link", click: () => this.ask(subject), "aria-label": `Why is ${subject} as it is?` },
      command(entry.command),
    );
    return h("span", {}, button, h("small", {}, ` ${state}${on}`));
  }

  update({ view }: Frame): void {
    const focus = this.root.contains(document.activeElement) ? document.activeElement?.textContent : null;
    const { station, load, execute, store, reader, writer, port, tlb, front_end } = view;
    const move = (name: string, of: View["load"]): (Node | string)[] => [
      `${name}: ${of.state}, row ${of.row} of ${of.rows}`,
      ...of.tracker.map((tracked) => `command ${tracked.seq ?? "?"}: ${tracked.left} left`),
    ];
    const engine = (name: string, of: View["reader"]): string =>
      `${name}: ${of.active ? `splits a row, ${of.bytes_done} bytes done` : "no row"}; ${of.transactions.length} requests under way`;
    const parts: [string, (Node | string)[]][] = [
      ["Before the station", [...front_end.raw, ...front_end.unrolled].map(command)],
      ["Loads in the station", station.load.map((entry) => this.entry(entry))],
      ["Executes in the station", station.execute.map((entry) => this.entry(entry))],
      ["Stores in the station", station.store.map((entry) => this.entry(entry))],
      ["Controllers", [
        ...move("load", load),
        `execute: ${execute.state}, ${execute.dataflow}, ${execute.entered} of ${execute.total_rows ?? 0} rows entered, ${execute.in_array} in the array`,
        ...move("store", store),
      ]],
      ["DMA and memory port", [
        engine("reader", reader),
        engine("writer", writer),
        `${port.in_flight} requests without their full response; beats in the buffers: ${port.port_a} out, ${port.port_d} in`,
        `TLB: ${tlb.pages.length} pages, ${tlb.walks.length} walks`,
      ]],
      ["Events of this cycle", view.events],
    ];
    this.root.replaceChildren(
      ...parts.map(([name, items]) => h("section", { "aria-label": name }, h("h3", {}, `${name} `, h("small", {}, String(items.length))), list(items))),
    );
    if (focus) [...this.root.querySelectorAll("button")].find((button) => button.textContent === focus)?.focus();
  }
}

/** The program's commands around the one at which the host stands. */
export function showItems(program: Program, view: View): void {
  const at = view.host.item;
  const first = Math.max(0, Math.min(at - AROUND, program.items.length - 2 * AROUND - 1));
  const items = program.items.slice(first, first + 2 * AROUND + 1);
  // Of a long program the first items only are known here.
  const known = at <= program.items.length;
  const lines = known ? items : view.host.next;
  find("items").replaceChildren(
    ...lines.map((text, index) => {
      const number = known ? first + index : at + index;
      const here = number === at;
      return h("li", here ? { class: "here", "aria-current": "true" } : {}, h("span", { class: "number" }, String(number)), text.trim());
    }),
  );
  find("host").textContent = `${view.operation ? `Operation ${view.operation.name}; the` : "The"} host: ${view.host.position}.`;
}

export function showWhy(explanation: Explanation, goto: (cycle: number) => void): void {
  const { subject, cycle, sentence, chain, until } = explanation;
  const links = chain.map(({ subject, state, cause, text }) =>
    h("li", { class: state }, h("b", {}, spoken(subject)), ` ${state}${cause ? ` (${spoken(cause)})` : ""}: ${text}`),
  );
  const jump = until
    ? [h("button", { type: "button", click: () => goto(until.cycle) }, `Go to cycle ${grouped(until.cycle)}: ${until.text}`)]
    : [];
  find("why").replaceChildren(
    h("p", {}, h("b", {}, `${spoken(subject)}, cycle ${grouped(cycle)}. `), sentence),
    h("ol", {}, ...links),
    ...jump,
  );
}
