import type { Series } from '../contents.js';
import { renderChart, type Chart } from '../charts/svg.js';
import { legend } from '../charts/theme.js';
import type { Fact } from '../facts.js';
import { html, name, type Markup } from '../html.js';

/** A chart with its title, caption and key. */
export async function figure(title: string, caption: string, series: readonly Series[], chart: Chart): Promise<Markup> {
  return html`<figure>
    <figcaption><strong>${title}</strong><span>${caption}</span></figcaption>
    ${series.length > 0 ? legend(series) : null}${await renderChart(chart)}
  </figure>`;
}

/** Figures side by side, as many as fit. */
export function grid(figures: readonly Markup[]): Markup {
  return html`<div class="grid">${figures}</div>`;
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
