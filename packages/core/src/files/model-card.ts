import { countParameters } from '../adapter/accounting.js';
import type { PeftModel } from '../adapter/peft-model.js';

/** The README.md of an adapter folder, with the front matter that the hub reads. */
export function modelCard(peft: PeftModel, peftType: string): string {
  const { model, adapter } = peft;
  const { stored, base } = countParameters(peft);
  return `---
base_model: ${JSON.stringify(model.name)}
library_name: peft
tags:
- ${adapter.method.name}
---

# An adapter for ${model.name}

Made with peftjs by the method \`${adapter.method.name}\`, saved as \`${peftType}\`: ${stored.toLocaleString('en-US')} parameters
on ${Object.keys(adapter.layers).length} modules (${((100 * stored) / base).toFixed(3)} % of the base), and the modules ${Object.keys(
    adapter.saved,
  )
    .map((path) => `\`${path}\``)
    .join(', ')} trained whole.
`;
}
