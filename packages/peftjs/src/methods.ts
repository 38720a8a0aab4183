import { adalora } from '@peftjs/adalora';
import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import type { PeftMethod } from '@peftjs/core/method';
import { l1ra } from '@peftjs/l1ra';
import { lora, truncatedLora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';

/**
 * Every method of this package, for what opens adapters of any of them.
 *
 * @example const peft = await loadPretrained(model, 'my-adapter', { methods });
 */
export const methods: readonly PeftMethod[] = [
  lora,
  sora,
  adalora,
  l1ra,
  vera,
  truncatedLora,
  houlsby,
  pfeiffer,
  ia3,
  bitfit,
  head,
  full,
];
