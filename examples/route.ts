// A route handler of Next.js: app/api/classify/route.ts. The pipeline is opened once, when the server starts.
import { pipeline } from 'peftjs';

const classifier = pipeline('text-classification', './my-adapter');

export async function POST(request: Request): Promise<Response> {
  const classify = await classifier;
  return Response.json(await classify(await request.text()));
}
