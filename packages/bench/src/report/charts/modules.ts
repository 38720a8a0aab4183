const MAX_LABEL = 30;

/** Splits `encoder.layer.3.attention.query` into layer 3 and the rest; undefined unless exactly one part is a number. */
export function layerOf(path: string): { layer: number; module: string } | undefined {
  const parts = path.split('.');
  const at = parts.findIndex((part) => /^\d+$/.test(part));
  if (at < 0 || parts.findLastIndex((part) => /^\d+$/.test(part)) !== at) return undefined;
  return { layer: Number(parts[at]), module: parts.filter((_, index) => index !== at).join('.') };
}

/** Module paths without the parts that all of them begin with, and with the middle left out where they are long. */
export function shortened(paths: readonly string[]): Map<string, string> {
  const split = paths.map((path) => path.split('.'));
  const [first = []] = split;
  const differing = first.findIndex((part, index) =>
    split.some((parts) => parts[index] !== part || parts.length <= index + 1),
  );
  // A bare number says little: `layer.0.query` rather than `0.query`.
  const from = Math.max(0, /^\d+$/.test(first[differing] ?? '') ? differing - 1 : differing);
  const short = split.map((parts) => middleOut(parts.slice(from).join('.')));
  const distinct = new Set(short).size === paths.length;
  return new Map(paths.map((path, index) => [path, distinct ? (short[index] as string) : path]));
}

function middleOut(text: string): string {
  if (text.length <= MAX_LABEL) return text;
  return `${text.slice(0, MAX_LABEL / 2 - 1)}…${text.slice(-MAX_LABEL / 2)}`;
}
