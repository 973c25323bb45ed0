// The address of the page: a program and a place in its run.

/** Characters of a program in an address at most; mail and chat programs cut longer ones. */
const LONGEST = 30_000;

export interface Link {
  cycle: number;
  /** Another program than the one that the page was made with. */
  text?: string;
  config?: string;
  memory?: string;
  view?: string;
  pe?: string;
}

async function through(data: Uint8Array<ArrayBuffer>, stream: GenericTransformStream): Promise<Uint8Array<ArrayBuffer>> {
  const piped = new Blob([data]).stream().pipeThrough(stream as ReadableWritablePair<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>);
  return new Uint8Array(await new Response(piped).arrayBuffer());
}

export async function packed(text: string): Promise<string> {
  const data = await through(new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>, new CompressionStream("deflate-raw"));
  const binary = Array.from(data, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export async function unpacked(base64: string): Promise<string> {
  const binary = atob(base64.replaceAll("-", "+").replaceAll("_", "/"));
  const data = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  return new TextDecoder("utf-8", { fatal: true }).decode(await through(data, new DecompressionStream("deflate-raw")));
}

/** What stands behind `#`; none if the program is too long for an address. */
export async function write(link: Link): Promise<string | null> {
  const parts = new URLSearchParams({ cycle: String(link.cycle) });
  for (const key of ["config", "memory", "view", "pe"] as const) if (link[key]) parts.set(key, link[key]);
  if (link.text !== undefined) parts.set("program", await packed(link.text));
  const text = parts.toString();
  return text.length > LONGEST ? null : text;
}

/** Reads what stands behind `#`; an error says what of it means nothing. */
export async function read(fragment: string): Promise<Link> {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  const cycle = parts.get("cycle") ?? "0";
  if (!/^\d{1,15}$/.test(cycle)) throw new Error(`the link's cycle \`${cycle}\` is no number`);
  const link: Link = { cycle: Number(cycle) };
  for (const key of ["config", "memory", "view", "pe"] as const) {
    const value = parts.get(key);
    if (value !== null) link[key] = value;
  }
  const program = parts.get("program");
  if (program !== null) {
    try {
      link.text = await unpacked(program);
    } catch {
      throw new Error("the link's program is damaged: ask for the link again");
    }
  }
  return link;
}
