// The page: what it shows, and what moves it.

import { ArrayPane } from "./array";
import { Client, RequestError, StoppedError, bytes } from "./client";
import { dark, find, grouped, h } from "./dom";
import { Editor } from "./editor";
import * as link from "./link";
import { MemoriesPane } from "./memories";
import { BlocksPane, QueuesPane, showItems, showWhy } from "./panes";
import type { About, Assembled, Frame, Grade, Lab, LineResult, Loaded, Overview, PageData, Place, Program } from "./protocol";
import { TimelinePane } from "./timeline";

/** Cycles that the worker runs before it listens again. */
const SLICE = 1 << 18;
/** A run that is longer is not run to its end unasked. */
const UNASKED = 1 << 25;
/** Cycles before the present one that the heat of the array is counted in. */
const HEAT = 256;
/** Commands of a timeline at most. */
const COMMANDS = 3000;
/** Pictures a second while the run plays. */
const PICTURES = 30;

/** What is loaded: a text, or a file that the page has brought along. */
interface Source {
  name: string;
  text?: string;
  config: string;
  memory: string;
}

class Page {
  private readonly client: Client;
  private readonly editor = new Editor(() => this.edited());
  private readonly array = new ArrayPane(() => void this.arrayChanged());
  private readonly timeline = new TimelinePane((from, to, buckets) => void this.fetch(from, to, buckets), (cycle) => void this.goto(cycle));
  private readonly blocks = new BlocksPane((subject) => void this.why(subject));
  private readonly queues = new QueuesPane((subject) => void this.why(subject));
  private readonly memories = new MemoriesPane((text) => this.line(text), () => void this.attempt(() => this.memories.update()));

  private source: Source;
  private program: Program | undefined;
  private place: Place | undefined;
  private end: number | null = null;
  private target: number | undefined;
  private moving: Promise<void> | undefined;
  private playing = false;
  private subject = "";
  private lab: Lab | undefined;
  private typing: number | undefined;
  private wanted: [number, number, number] | undefined;
  private fetching = false;

  constructor(private readonly data: PageData, script: string, module: ArrayBuffer) {
    this.client = new Client(script, module, data);
    this.source = { name: data.name, config: data.config, memory: data.setup.memory, ...(data.text === null ? {} : { text: data.text }) };
    this.listen();
  }

  // Beginning.

  async begin(): Promise<void> {
    const about = await this.client.ask<About>({ do: "about" });
    find("version").textContent = `Pollux ${about.version}`;
    const names = about.configurations.map((name) => h("option", { value: name }, name));
    const own = this.data.config ? [h("option", { value: this.data.config }, "given with the page")] : [];
    find("config").replaceChildren(h("option", { value: "" }, "the program's own"), ...own, ...names);
    find("lab").replaceChildren(
      h("option", { value: "" }, this.data.name),
      ...about.labs.map((lab) => h("option", { value: lab.number }, `Lab ${lab.number}: ${lab.title}`)),
    );
    await this.follow();
    document.documentElement.dataset["ready"] = "true";
  }

  /** Goes where the address says. */
  private async follow(): Promise<void> {
    let place: link.Link = { cycle: this.data.cycle };
    try {
      if (location.hash.length > 1) place = await link.read(location.hash);
    } catch (error) {
      this.tell(String((error as Error).message), true);
    }
    const original: Source = { name: this.data.name, config: this.data.config, memory: this.data.setup.memory };
    if (this.data.text !== null) original.text = this.data.text;
    const wanted: Source = { ...original, config: place.config ?? original.config, memory: place.memory ?? original.memory };
    if (place.text !== undefined) Object.assign(wanted, { name: "linked.pasm", text: place.text });
    if (place.view) this.array.show(place.view);
    const [row, column] = (place.pe ?? "0,0").split(",").map(Number);
    if (this.program && wanted.text === this.source.text && wanted.config === this.source.config && wanted.memory === this.source.memory) {
      await this.goto(place.cycle);
    } else {
      this.editor.text = wanted.text ?? "";
      await this.load(wanted, place.cycle);
    }
    this.array.select(row || 0, column || 0);
  }

  // Loading.

  private setup(memory: string): PageData["setup"] {
    return { ...this.data.setup, memory };
  }

  private async load(source: Source, cycle: number): Promise<boolean> {
    this.pause();
    find<HTMLSelectElement>("config").value = source.config;
    find<HTMLInputElement>("memory-model").value = source.memory;
    try {
      const { name, text, config } = source;
      const loaded = await this.client.ask<Loaded>({ do: "load", name, config, setup: this.setup(source.memory), ...(text === undefined ? {} : { text }) });
      this.source = source;
      this.program = loaded.program;
      this.place = undefined;
      this.end = null;
      if (loaded.binary) {
        this.editor.text = loaded.text ?? `# ${name} is a binary whose text is too long to edit here: pollux dis ${name}\n`;
        if (loaded.text !== null) source.text = loaded.text;
      }
      this.editor.show([], [`${grouped(loaded.program.commands)} commands for ${loaded.program.config}.`, ...loaded.warnings].join(" "));
      find("program-name").textContent = name;
      document.title = `${name} \u2013 Pollux`;
      this.memories.load(loaded.program);
      this.array.select(0, 0);
    } catch (error) {
      this.fault(error);
      return false;
    }
    await this.run(cycle);
    return true;
  }

  /** Runs to the end once, so that its cycle is known, and then to the cycle that is wanted. */
  private async run(cycle: number): Promise<void> {
    await this.busily(async () => {
      let place: Place;
      do {
        place = await this.client.ask<Place>({ do: "advance", cycles: SLICE });
        this.tell(`Running: cycle ${grouped(place.cycle)}`, false);
      } while (!place.ended && place.cycle < UNASKED);
      this.end = place.ended ? place.cycle : null;
      const last = place.cycle;
      find("totals").textContent = this.totals(place);
      const slider = find<HTMLInputElement>("slider");
      slider.max = String(last);
      await this.line(`goto ${Math.min(cycle, last)}`);
      await this.refresh();
      this.timeline.extent(last);
      await this.arrived();
      if (place.error) this.tell(place.error, true);
      else if (cycle > last) this.tell(`The run ends in cycle ${grouped(last)}, before cycle ${grouped(cycle)}.`, true);
    });
  }

  private totals({ ended, totals, cycle }: Place): string {
    if (!ended) return `more than ${grouped(cycle)} cycles`;
    return `${grouped(totals.busy_falls)} cycles, ${grouped(totals.commands)} commands`;
  }

  private edited(): void {
    clearTimeout(this.typing);
    this.typing = window.setTimeout(() => void this.assemble(), 250);
  }

  private async assemble(): Promise<void> {
    const config = find<HTMLSelectElement>("config").value;
    try {
      const { commands, warnings } = await this.client.ask<Assembled>({ do: "assemble", name: this.source.name, text: this.editor.text, config });
      const news = this.editor.text === this.source.text ? "" : " Ctrl+Enter runs it.";
      this.editor.show([], [`${grouped(commands)} commands.${news}`, ...warnings].join(" "));
    } catch (error) {
      this.fault(error);
    }
  }

  private async loadText(): Promise<void> {
    const unchanged = this.source.text === undefined;
    const source: Source = {
      name: this.source.name,
      config: find<HTMLSelectElement>("config").value,
      memory: find<HTMLInputElement>("memory-model").value.trim(),
      // A binary that is too long for the editor stays the file that it is.
      ...(unchanged ? {} : { text: this.editor.text }),
    };
    if (await this.load(source, 0)) void this.address();
  }

  // Asking.

  private line(text: string): Promise<LineResult> {
    return this.client.ask<LineResult>({ do: "line", text });
  }

  /** Does something, and tells what went wrong. */
  private async attempt(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof StoppedError)) this.tell((error as Error).message, true);
    }
  }

  private async busily(action: () => Promise<void>): Promise<void> {
    const stop = find<HTMLButtonElement>("stop");
    stop.disabled = false;
    document.body.setAttribute("aria-busy", "true");
    await this.attempt(action);
    stop.disabled = true;
    document.body.removeAttribute("aria-busy");
  }

  /** Ends a search: the worker is replaced, and the program loaded again. */
  private async stop(): Promise<void> {
    this.pause();
    const cycle = this.place?.cycle ?? 0;
    this.client.restart();
    await this.attempt(async () => {
      const { name, text, config, memory } = this.source;
      await this.client.ask<Loaded>({ do: "load", name, config, setup: this.setup(memory), ...(text === undefined ? {} : { text }) });
      await this.line(`goto ${cycle}`);
      await this.refresh();
      this.tell(`Stopped in cycle ${grouped(cycle)}.`, false);
    });
  }

  private fault(error: unknown): void {
    const diagnostics = error instanceof RequestError ? (error.fault.diagnostics ?? []) : [];
    const ours = diagnostics.filter((of) => of.file === this.source.name || of.file === "linked.pasm");
    this.editor.show(ours, (error as Error).message);
    if (this.program === undefined) this.tell("The program has faults: they are shown at their lines.", true);
  }

  private tell(text: string, error: boolean): void {
    const status = find("status");
    status.textContent = text;
    status.className = error ? "error" : "";
  }

  // Moving.

  /** Goes to a cycle; of several wishes while it moves the last one counts. */
  private goto(cycle: number): Promise<void> {
    const last = this.end ?? Number.MAX_SAFE_INTEGER;
    this.target = Math.max(0, Math.min(Math.floor(cycle), last));
    this.moving ??= this.move().finally(() => (this.moving = undefined));
    return this.moving;
  }

  private async move(): Promise<void> {
    await this.attempt(async () => {
      while (this.target !== undefined && this.target !== this.place?.cycle) {
        await this.line(`goto ${this.target}`);
        await this.refresh();
      }
    });
    this.target = undefined;
    if (!this.playing) await this.arrived();
  }

  private step(cycles: number): Promise<void> {
    return this.goto((this.target ?? this.place?.cycle ?? 0) + cycles);
  }

  private async search(back: boolean): Promise<void> {
    const input = find<HTMLInputElement>("until");
    const condition = input.value.trim();
    if (!condition) {
      input.focus();
      this.tell("Write a condition, such as `completed store` or `stall load_controller`.", true);
      return;
    }
    this.pause();
    await this.busily(async () => {
      const { hit } = await this.line(`${back ? "reverse-until" : "until"} ${condition}`);
      await this.refresh();
      await this.arrived();
      if (hit === null) this.tell(`In no ${back ? "earlier" : "later"} cycle: \`${condition}\`. This is the ${back ? "start" : "end"} of the run.`, true);
    });
  }

  private play(): void {
    if (this.playing) return this.pause();
    this.playing = true;
    const button = find("play");
    button.textContent = "\u2016";
    button.setAttribute("aria-label", "Pause");
    const tick = async (): Promise<void> => {
      const rate = Number(find<HTMLSelectElement>("speed").value);
      const cycles = Math.max(1, Math.round(rate / PICTURES));
      const begun = performance.now();
      await this.step(cycles);
      if (!this.playing) return;
      if (this.place?.ended) return this.pause();
      setTimeout(() => void tick(), Math.max(0, (1000 * cycles) / rate - (performance.now() - begun)));
    };
    void tick();
  }

  private pause(): void {
    if (!this.playing) return;
    this.playing = false;
    const button = find("play");
    button.textContent = "\u25b6";
    button.setAttribute("aria-label", "Play");
    void this.arrived();
  }

  /** The present cycle is shown. */
  private async refresh(): Promise<void> {
    const frame = await this.client.ask<Frame>({ do: "frame", heat: this.array.needsHeat ? HEAT : 0 });
    const { place, view } = frame;
    this.place = place;
    const cycle = find<HTMLInputElement>("cycle");
    if (document.activeElement !== cycle) cycle.value = String(place.cycle);
    find<HTMLInputElement>("slider").value = String(place.cycle);
    this.array.update(frame.array, frame.heat);
    this.blocks.update(view);
    this.queues.update(frame);
    if (this.program) showItems(this.program, view);
    this.timeline.cursor(place.cycle);
    await this.memories.update();
  }

  /** The run stands still: what is asked for only then. */
  private async arrived(): Promise<void> {
    const place = this.place;
    if (!place) return;
    const of = this.end === null ? "" : ` of ${grouped(this.end)}`;
    const differs = place.differs.map((line) => ` ${line}.`).join("");
    const here = `Cycle ${grouped(place.cycle)}${of}${place.ended ? ", the end of the run" : ""}.${differs}`;
    this.tell(place.error ?? here, place.error !== null || differs !== "");
    if (this.subject) await this.why(this.subject);
    await this.address();
  }

  private async why(subject: string): Promise<void> {
    this.subject = subject;
    find<HTMLInputElement>("subject").value = subject;
    try {
      const { why } = await this.line(`why ${subject}`);
      if (why) showWhy(why, (cycle) => void this.goto(cycle));
    } catch (error) {
      if (!(error instanceof StoppedError)) find("why").replaceChildren(h("p", { class: "error" }, (error as Error).message));
    }
  }

  private async arrayChanged(): Promise<void> {
    if (this.array.needsHeat && !this.playing) await this.attempt(() => this.refresh());
    else this.array.draw();
    if (this.place && !this.playing) await this.address();
  }

  /** Of several wishes while one is answered the last one counts. */
  private async fetch(from: number, to: number, buckets: number): Promise<void> {
    this.wanted = [from, to, buckets];
    if (this.fetching) return;
    this.fetching = true;
    await this.attempt(async () => {
      while (this.wanted) {
        const [from, to, buckets] = this.wanted;
        this.wanted = undefined;
        if (to > from) this.timeline.show(await this.client.ask<Overview>({ do: "overview", from, to, buckets, commands: COMMANDS }));
      }
    });
    this.fetching = false;
  }

  // Links.

  private linked(whole: boolean): link.Link {
    const { text, config, memory } = this.source;
    const place: link.Link = { cycle: this.place?.cycle ?? 0, view: this.array.shown, pe: `${this.array.row},${this.array.column}` };
    if (config !== this.data.config || whole) place.config = config;
    if (memory !== this.data.setup.memory || whole) place.memory = memory;
    if (text !== undefined && (whole || text !== this.data.text) && Object.keys(this.data.files).length === 0) place.text = text;
    return place;
  }

  private async address(): Promise<void> {
    const fragment = await link.write(this.linked(false));
    if (fragment) history.replaceState(null, "", `#${fragment}`);
  }

  private async copyLink(): Promise<void> {
    const whole = this.linked(true);
    const fragment = (await link.write(whole)) ?? (await link.write(this.linked(false)));
    if (!fragment) return this.tell("The program is too long for a link: send the page itself.", true);
    const address = `${location.href.split("#")[0]}#${fragment}`;
    history.replaceState(null, "", `#${fragment}`);
    try {
      await navigator.clipboard.writeText(address);
      this.tell(whole.text === undefined ? "Link copied: this page, at this cycle." : "Link copied: any page of Pollux opens the program at this cycle.", false);
    } catch {
      this.tell("The link stands in the address bar.", false);
    }
  }

  // Labs.

  private async openLab(number: string): Promise<void> {
    const pane = find("lab-pane");
    if (!number) {
      pane.hidden = true;
      this.lab = undefined;
      history.replaceState(null, "", "#");
      this.source = { ...this.source, name: this.data.name };
      return this.follow();
    }
    await this.attempt(async () => {
      const [seed = 0] = crypto.getRandomValues(new Uint32Array(1));
      const lab = await this.client.ask<Lab>({ do: "lab", number: Number(number), seed });
      this.lab = lab;
      pane.hidden = false;
      find("lab-title").textContent = `Lab ${lab.number}: ${lab.title}`;
      find("lab-goal").textContent = lab.goal;
      // The lines of a paragraph are one; what is indented stays.
      find("lab-task").textContent = lab.task.trim().replace(/([^\n])\n(?=[^\n ])/g, "$1 ");
      find("lab-rules").replaceChildren(...lab.rules.map((rule) => h("li", {}, rule)));
      find("lab-result").textContent = "";
      find("lab-answer-label").hidden = lab.answer === null;
      find<HTMLTextAreaElement>("lab-answer").value = lab.answer ?? "";
      if (lab.starter === null) return;
      this.editor.text = lab.starter;
      this.source = { ...this.source, name: `lab${lab.number}.pasm` };
      await this.load({ name: `lab${lab.number}.pasm`, text: lab.starter, config: "", memory: lab.memory ?? "" }, 0);
    });
  }

  private async checkLab(): Promise<void> {
    const lab = this.lab;
    if (!lab) return;
    const result = find("lab-result");
    result.textContent = "Grading.";
    const seeds = [...crypto.getRandomValues(new Uint32Array(5))];
    await this.busily(async () => {
      const text = lab.answer === null ? this.editor.text : find<HTMLTextAreaElement>("lab-answer").value;
      const grade = await this.client.ask<Grade>({ do: "check", number: lab.number, text, seeds });
      result.className = grade.verdict === "accepted" ? "ok" : "error";
      const cases = grade.verdict === "accepted" ? ` (${grade.cases} cases)` : "";
      result.textContent = grade.verdict === "accepted" ? `${grade.message}${cases}` : `${grade.verdict.replaceAll("_", " ")}: ${grade.message}`;
    });
  }

  // The console: lines as in `pollux debug --script`.

  private async command(text: string): Promise<void> {
    const out = find("console-out");
    await this.busily(async () => {
      try {
        const result = await this.line(text);
        out.textContent = JSON.stringify(result, null, 1);
        if (result.cycle !== this.place?.cycle) {
          await this.refresh();
          await this.arrived();
        }
      } catch (error) {
        if (error instanceof StoppedError) throw error;
        out.textContent = (error as Error).message;
      }
    });
  }

  // Events.

  private listen(): void {
    const click = (id: string, action: () => unknown): void => find(id).addEventListener("click", () => void action());
    click("start", () => this.goto(0));
    click("back16", () => this.step(-16));
    click("back", () => this.step(-1));
    click("play", () => this.play());
    click("step", () => this.step(1));
    click("step16", () => this.step(16));
    click("end", () => (this.end === null ? this.command("end") : this.goto(this.end)));
    click("stop", () => this.stop());
    click("until-forward", () => this.search(false));
    click("until-back", () => this.search(true));
    click("load", () => this.loadText());
    click("link", () => this.copyLink());
    click("help", () => find<HTMLDialogElement>("keys").showModal());
    click("lab-check", () => this.checkLab());
    const submit = (id: string, action: () => unknown): void =>
      find(id).addEventListener("submit", (event) => {
        event.preventDefault();
        void action();
      });
    submit("goto-form", () => this.goto(Number(find<HTMLInputElement>("cycle").value) || 0));
    submit("until-form", () => this.search(false));
    submit("why-form", () => this.why(find<HTMLInputElement>("subject").value.trim() || "host"));
    submit("console-form", () => this.command(find<HTMLInputElement>("console").value));
    find("slider").addEventListener("input", () => void this.goto(Number(find<HTMLInputElement>("slider").value)));
    find("lab").addEventListener("change", () => void this.openLab(find<HTMLSelectElement>("lab").value));
    find("config").addEventListener("change", () => void this.assemble());
    addEventListener("hashchange", () => void this.follow());
    addEventListener("resize", () => this.redraw());
    dark.addEventListener("change", () => this.redraw());
    document.addEventListener("keydown", (event) => this.key(event));
    this.redraw();
  }

  private redraw(): void {
    this.array.draw();
    this.timeline.recolour();
  }

  private key(event: KeyboardEvent): void {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.preventDefault();
      void this.loadText();
      return;
    }
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.altKey || event.metaKey || target.matches("input, textarea, select, dialog *")) return;
    // Space and Enter press the button that has the focus.
    if (event.key === " " && target.matches("button, summary")) return;
    const actions: Record<string, () => unknown> = {
      ArrowRight: () => this.step(event.shiftKey ? 16 : 1),
      ArrowLeft: () => this.step(event.shiftKey ? -16 : -1),
      l: () => this.step(1),
      h: () => this.step(-1),
      Home: () => this.goto(0),
      End: () => find("end").click(),
      " ": () => this.play(),
      n: () => this.search(false),
      N: () => this.search(true),
      g: () => find<HTMLInputElement>("cycle").select(),
      "/": () => find("until").focus(),
      w: () => find("subject").focus(),
      e: () => find("text").focus(),
      ":": () => find("console").focus(),
      "?": () => find("help").click(),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    void action();
  }
}

async function open(): Promise<void> {
  const data = JSON.parse(find("pollux-page").textContent ?? "") as PageData;
  const packed = bytes((find("pollux-module").textContent ?? "").trim());
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const module = await new Response(stream).arrayBuffer();
  await new Page(data, find("pollux-worker").textContent ?? "", module).begin();
}

open().catch((error: unknown) => {
  const status = find("status");
  status.className = "error";
  status.textContent = `The page cannot start: ${String(error)}`;
});
