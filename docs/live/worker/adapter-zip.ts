import { memoryStorage, savePretrained, type PeftModel } from '@peftjs/core';
import { zipSync } from 'fflate';

/** Returns a zip of the adapter in PEFT's format: adapter_config.json, adapter_model.safetensors and a model card. */
export async function adapterZip(peft: PeftModel): Promise<Uint8Array<ArrayBuffer>> {
  const storage = memoryStorage();
  await savePretrained(peft, FOLDER, { storage });
  const files = [...storage.files].map(([path, bytes]) => [path.slice(FOLDER.length + 1), bytes] as const);
  return new Uint8Array(zipSync(Object.fromEntries(files), { level: 0 }));
}

const FOLDER = 'adapter';
