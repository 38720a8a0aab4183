import type { TopLevelSpec } from 'vega-lite';
import { escapeHtml, trusted, type Markup } from '../html.js';
import { THEME } from './theme.js';

/** A chart to draw: a vega-lite unit or layer without its configuration, and what it shows in words. */
export interface Chart {
  readonly description: string;
  readonly spec: Omit<TopLevelSpec, 'config'>;
}

/** Draws a chart as SVG that takes colours and type from the page around it. */
export async function renderChart({ description, spec }: Chart): Promise<Markup> {
  const { vega, compile } = await (drawing ??= loadDrawing());
  const logger = vega.logger(vega.Error);
  const { spec: compiled } = compile({ ...spec, config: THEME } as TopLevelSpec, { logger });
  const view = new vega.View(vega.parse(compiled), { renderer: 'none', logger });
  try {
    const svg = trimmed(await view.toSVG());
    return trusted(svg.replace('<svg ', `<svg role="img" aria-label="${escapeHtml(description)}" `));
  } finally {
    view.finalize();
  }
}

/** Without what only vega's own styling and interaction need, and in hundredths of a pixel: a third of the size. */
function trimmed(svg: string): string {
  return svg
    .replace(/<path class="(?:fore|back)ground"[^>]*?(?: d="(?:M0,0h0v0h0Z)?"[^>]*| display="none")\/>/g, '')
    .replace(/<[^>]*>/g, (tag) =>
      tag
        .replace(/ (?:class|role|aria-[a-z]+|pointer-events|version|xmlns(?::xlink)?)="[^"]*"| opacity="1"/g, '')
        .replace(/\d+\.\d{3,}(?:e-\d+)?/g, (number) => String(Number(Number(number).toFixed(2)))),
    );
}

// Vega has no canvas in Node and takes every character to be 0.8 em wide. These are the widths of a wide face (DejaVu Sans), in em,
// so that nothing is clipped in a narrower one.
const CHARACTER_WIDTHS: readonly (readonly [RegExp, number])[] = [
  [/[ijl.,:;|'!I()[\]]/, 0.36],
  [/[mwMW@%]/, 0.95],
  [/[a-z0-9 _\-+/]/, 0.63],
  [/[A-Z]/, 0.74],
];

/** Width of a text in px. */
export function textWidth(text: string, fontSize: number): number {
  const widthOf = (character: string): number => CHARACTER_WIDTHS.find(([group]) => group.test(character))?.[1] ?? 1;
  return fontSize * Array.from(text).reduce((sum, character) => sum + widthOf(character), 0);
}

/** Places as near as can be to those wished for, at least `gap` apart, between `low` and `high` where all of them fit. */
export function spread(
  wished: readonly number[],
  { gap, low, high }: { readonly gap: number; readonly low: number; readonly high: number },
): number[] {
  const order = wished.map((_, index) => index).sort((a, b) => (wished[a] as number) - (wished[b] as number));
  const places = [...wished];
  let above = low - gap;
  for (const index of order) above = places[index] = Math.max(places[index] as number, above + gap);
  let below = high + gap;
  for (const index of order.reverse()) below = places[index] = Math.min(places[index] as number, below - gap);
  return places;
}

type Drawing = { readonly vega: typeof import('vega'); readonly compile: (typeof import('vega-lite'))['compile'] };

let drawing: Promise<Drawing> | undefined;

/** Vega and Vega-Lite are most of what this package would load, and only a report needs them. */
async function loadDrawing(): Promise<Drawing> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const { textMetrics } = vega as unknown as { readonly textMetrics: TextMetrics };
  textMetrics.width = (item, text) => textWidth(String(text ?? ''), item.fontSize ?? 11);
  return { vega, compile };
}

// Vega exports the object for this purpose, but its types leave it out.
interface TextMetrics {
  width: (item: { readonly fontSize?: number }, text: string | number | null | undefined) => number;
}
