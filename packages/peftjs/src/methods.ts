import { adalora } from '@peftjs/adalora';
import { alora } from '@peftjs/alora';
import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import { bayesLora } from '@peftjs/bayes-lora';
import type { PeftMethod } from '@peftjs/core/method';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { elaLora } from '@peftjs/ela-lora';
import { gora } from '@peftjs/gora';
import { l1ra } from '@peftjs/l1ra';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora, truncatedLora } from '@peftjs/lora';
import { oft } from '@peftjs/oft';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';

/**
 * All methods of this package, for functions that open adapters of any method.
 *
 * @example const peft = await loadPretrained(model, 'my-adapter', { methods });
 */
export const methods: readonly PeftMethod[] = [
  lora,
  sora,
  adalora,
  l1ra,
  dynamicDora,
  alora,
  bayesLora,
  gora,
  elaLora,
  vera,
  loha,
  lokr,
  oft,
  lnTuning,
  truncatedLora,
  houlsby,
  pfeiffer,
  ia3,
  bitfit,
  head,
  full,
];
