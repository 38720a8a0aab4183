import type { Fact } from './facts.js';

/** Markup that is safe to show: made by `html`, or vouched for by `trusted`. */
export class Markup {
  constructor(readonly text: string) {}
}

type Part = string | number | null | Markup | readonly Part[];

/** A template whose values are escaped, unless they are markup already; lists are joined, null is nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((text, string, index) => text + rendered(parts[index - 1] ?? null) + string));
}

/** Markup that was made elsewhere and holds no outside text unescaped. */
export function trusted(text: string): Markup {
  return new Markup(text);
}

/** Outside text on its own: no character of it changes the direction of what stands around it. */
export function name(text: string): Markup {
  return html`<bdi>${text}</bdi>`;
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

/** Text for an element or a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

/** Terms and what is said about them. */
export function factList(facts: readonly Fact[]): Markup {
  return html`<dl>
    ${facts.map(
      ({ term, value }) =>
        html`<dt>${name(term)}</dt>
          <dd>${name(value)}</dd>`,
    )}
  </dl>`;
}

/** What a reader opens at will; the first of several is open. */
export function disclosure(title: string, content: Markup, isOpen: boolean): Markup {
  const summary = html`<summary><h3>${name(title)}</h3></summary>`;
  return isOpen
    ? html`<details class="part" open>${summary}${content}</details>`
    : html`<details class="part">${summary}${content}</details>`;
}
