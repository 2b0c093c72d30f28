//! What passes in a second when everybody sends to those it has unchoked: a line is shared out in equal parts; of who is
//! sent more than its own line takes, all take the same share of their part, and what is left over goes to others.

/// How often what is left over is shared out again. After that it is little.
const PASSES: usize = 3;

/// From whom to whom, and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: f64,
}

/// Fills `flows`, of peers whose lines take `up` and `down`.
pub(crate) fn share_out(flows: &mut [Flow], up: &mut [f64], down: &mut [f64]) {
    let mut takers = vec![0_u32; up.len()];
    let mut wanted = vec![0.0; up.len()];
    for _ in 0..PASSES {
        takers.fill(0);
        wanted.fill(0.0);
        let open = |flow: &Flow, up: &[f64], down: &[f64]| up[flow.from] > 1.0 && down[flow.to] > 1.0;
        for flow in flows.iter().filter(|flow| open(flow, up, down)) {
            takers[flow.from] += 1;
        }
        let part: Vec<_> = up.iter().zip(&takers).map(|(up, takers)| up / f64::from((*takers).max(1))).collect();
        for flow in flows.iter().filter(|flow| open(flow, up, down)) {
            wanted[flow.to] += part[flow.from];
        }
        let share: Vec<_> = down.iter().zip(&wanted).map(|(down, wanted)| (down / wanted).min(1.0)).collect();
        let mut rest = false;
        for flow in flows.iter_mut() {
            // What was open a moment ago: nobody's line has been used since.
            if takers[flow.from] == 0 || part[flow.from] <= 0.0 || wanted[flow.to] <= 0.0 {
                continue;
            }
            let bytes = part[flow.from] * share[flow.to];
            flow.bytes += bytes;
            up[flow.from] -= bytes;
            down[flow.to] -= bytes;
            rest |= share[flow.to] < 1.0;
        }
        if !rest {
            break;
        }
    }
}
