import { baseParameters, storedParameters } from '../adapter/accounting.js';
import type { Adapter } from '../adapter/peft-model.js';
import type { Model } from '../contracts/model.js';

/** The README.md of an adapter folder, with the front matter that the hub reads. */
export function modelCard(model: Model, { method, layers, saved, values, labels }: Adapter, peftType: string): string {
  const stored = storedParameters(layers, values);
  const whole = Object.keys(saved).map((path) => `\`${path}\``);
  return `---
base_model: ${JSON.stringify(model.name)}
library_name: peft
tags:
- ${method.name}
---

# An adapter for ${model.name}

Made with peftjs by the method \`${method.name}\`, saved as \`${peftType}\`: ${stored.toLocaleString('en-US')} parameters
on ${Object.keys(layers).length} modules (${((100 * stored) / baseParameters(model)).toFixed(3)} % of the base), and the modules ${whole.join(', ') || 'none'} trained whole.
${labels ? classList(labels) : ''}`;
}

/** The names may come from a stranger's file: quoted, each of them is one line and nothing but code. */
function classList(labels: readonly string[]): string {
  const items = labels.map((label, index) => `${index}. \`${JSON.stringify(label).replaceAll('`', "'")}\``);
  return `\n## Classes\n\n${items.join('\n')}\n`;
}
