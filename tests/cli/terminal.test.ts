import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '@peftjs/safetensors';
import { beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';

/** Clears the screen. */
const CLEAR = '\u001b[2J';

const folder = temporaryFolder();
beforeAll(async () => {
  const tensor = { dtype: 'F32', shape: [1], data: Float32Array.of(1) } as const;
  const weights = writeSafetensors(new Map([[`base_model.model.${CLEAR}.lora_A.weight`, tensor]]), {});
  await writeFile(join(folder, 'adapter_model.safetensors'), weights);
  await writeFile(
    join(folder, 'adapter_config.json'),
    JSON.stringify({ peft_type: `LORA${CLEAR}`, base_model_name_or_path: `${CLEAR}none` }),
  );
});

it.each([
  ['inspect', 'of an adapter', ['inspect', '']],
  ['inspect', 'of tensors', ['inspect', '/adapter_model.safetensors']],
  ['export', 'of an error', ['export', '', '--format', 'peft', '--out', 'nowhere']],
])('%s prints no terminal control sequences, in the output %s', async (_, __, [command = '', path = '', ...rest]) => {
  const { stdout, stderr } = await peftBench([command, folder + path, ...rest]);
  expect(stdout + stderr).toContain(' [2J');
  expect(stdout + stderr).not.toContain('\u001b');
});
