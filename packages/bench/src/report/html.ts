/** Markup that is safe to show: made by `html`, or by `trusted`. */
export class Markup {
  /** @param text The HTML. */
  constructor(readonly text: string) {}
}

type Part = string | number | null | Markup | readonly Part[];

/** An HTML template. Values are escaped unless they are markup; arrays are joined, and null gives nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((text, string, index) => text + rendered(parts[index - 1] ?? null) + string));
}

/** Declares a text as markup: one that was made elsewhere and contains no unescaped outside text. */
export function trusted(text: string): Markup {
  return new Markup(text);
}

/** Shows outside text in isolation, so that it cannot change the text direction around it. */
export function name(text: string): Markup {
  return html`<bdi>${text}</bdi>`;
}

/** An element; attributes that are undefined are left out. */
export function element(
  tag: string,
  content: Part,
  attributes: Readonly<Record<string, string | undefined>> = {},
): Markup {
  const given = Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [` ${key}="${escapeHtml(value)}"`],
  );
  return trusted(`<${tag}${given.join('')}>${rendered(content)}</${tag}>`);
}

function rendered(part: Part): string {
  if (part === null) return '';
  if (part instanceof Markup) return part.text;
  if (typeof part === 'object') return part.map(rendered).join('');
  return escapeHtml(String(part));
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Escapes text for an element or a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}
