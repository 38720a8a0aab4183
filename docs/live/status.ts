import type { LiveSession } from './session.js';

/** Where the page stands, in a line. */
export function statusOf({ phase, share, progress, device }: LiveSession): string {
  const percent = `${Math.round(100 * share)} %`;
  switch (phase) {
    case 'idle':
      return 'Training loads about 43 MB from this site: the model, and ONNX Runtime.';
    case 'loading':
      return `Loading: ${percent}`;
    case 'preparing':
      return `First a head alone, on the frozen encoder: ${percent}`;
    case 'training':
      if (!progress) return 'Training';
      return `Step ${progress.step} of ${progress.totalSteps}, ${Math.round(progress.milliseconds)} ms${on(device)}`;
    case 'finished':
      return `Finished after ${progress?.totalSteps ?? 0} steps. The adapter is yours.`;
    case 'stopped':
      return progress ? `Stopped at step ${progress.step}; what is learnt so far stays.` : 'Stopped.';
    case 'failed':
      return 'Not trained.';
  }
}

function on(device: LiveSession['device']): string {
  if (!device) return '';
  if (device.backend === 'webgpu') return ' on WebGPU';
  return ` on WebAssembly, ${device.threads} ${device.threads === 1 ? 'thread' : 'threads'}`;
}
