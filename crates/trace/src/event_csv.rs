//! The text form of events: a line of `trace.csv`, `cycle,event,a,b,c,d,e,f,g`.

use std::fmt::Write;

use pollux_sim::observer::{Cycle, Event, Origin, Port, ReqKind, Unit};

/// First line of a trace file.
pub const HEADER: &str = "cycle,event,a,b,c,d,e,f,g";

/// Name of a queue of the reservation station.
pub fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Ld => "ld",
        Unit::Ex => "ex",
        Unit::St => "st",
    }
}

/// Name of the maker of a command.
pub fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Host => "host",
        Origin::Matmul => "matmul",
        Origin::Conv => "conv",
    }
}

fn port(port: Port) -> &'static str {
    match port {
        Port::Ex => "ex",
        Port::Dma => "dma",
    }
}

/// The event as a line without line end. Addresses, operands, masks and response data are hexadecimal.
pub fn line(cycle: Cycle, event: &Event) -> String {
    let mut s = format!("{cycle},");
    let written = match *event {
        Event::Busy { value } => write!(s, "busy,{}", u8::from(value)),
        Event::Accept { number, funct, rs1, rs2 } => write!(s, "accept,{number},{funct},{rs1:x},{rs2:x}"),
        Event::Alloc { seq, unit: u, entry, funct, rs1, rs2, origin } => {
            write!(s, "alloc,{seq},{},{entry},{funct},{rs1:x},{rs2:x},{}", unit(u), self::origin(origin))
        }
        Event::Issue { seq, unit: u, entry } => write!(s, "issue,{seq},{},{entry}", unit(u)),
        Event::Complete { seq, unit: u, entry } => write!(s, "complete,{seq},{},{entry}", unit(u)),
        Event::Req { request, kind, source, address, size, beat, mask } => {
            let kind = match kind {
                ReqKind::Get => "get",
                ReqKind::PutFull => "putfull",
                ReqKind::PutPartial => "putpartial",
            };
            write!(s, "req,{request},{kind},{source},{address:x},{size},{beat},{mask:x}")
        }
        Event::Rsp { request, ack, source, beat } => {
            write!(s, "rsp,{request},{},{source},{beat}", if ack { "ack" } else { "data" })
        }
        Event::Resp { register, data } => write!(s, "resp,{register},{data:x}"),
        Event::SpadRead { bank, row, port: p } => write!(s, "spad_rd,{bank},{row},{}", port(p)),
        Event::SpadWrite { bank, row, port: p } => write!(s, "spad_wr,{bank},{row},{}", port(p)),
        Event::AccRead { bank, row, port: p } => write!(s, "acc_rd,{bank},{row},{}", port(p)),
        Event::AccWrite { bank, row, port: p, accumulate } => {
            write!(s, "acc_wr,{bank},{row},{},{}", port(p), u8::from(accumulate))
        }
        Event::MeshReq { flush } => write!(s, "mesh_req,{flush}"),
        Event::MeshA => write!(s, "mesh_a"),
        Event::MeshOut { last } => write!(s, "mesh_out,{}", u8::from(last)),
    };
    written.expect("writing to a string cannot fail");
    s
}

/// Reads a line of a trace.
///
/// # Errors
/// Says which column is missing or malformed.
pub fn parse(line: &str) -> Result<(Cycle, Event), String> {
    let mut fields = Fields(line.split(','));
    let cycle = fields.dec()?;
    let event = match fields.word()? {
        "busy" => Event::Busy { value: fields.dec::<u8>()? == 1 },
        "accept" => {
            Event::Accept { number: fields.dec()?, funct: fields.dec()?, rs1: fields.hex()?, rs2: fields.hex()? }
        }
        "alloc" => Event::Alloc {
            seq: fields.dec()?,
            unit: fields.unit()?,
            entry: fields.dec()?,
            funct: fields.dec()?,
            rs1: fields.hex()?,
            rs2: fields.hex()?,
            origin: match fields.word()? {
                "host" => Origin::Host,
                "matmul" => Origin::Matmul,
                "conv" => Origin::Conv,
                other => return Err(format!("unknown origin '{other}'")),
            },
        },
        "issue" => Event::Issue { seq: fields.dec()?, unit: fields.unit()?, entry: fields.dec()? },
        "complete" => Event::Complete { seq: fields.dec()?, unit: fields.unit()?, entry: fields.dec()? },
        "req" => Event::Req {
            request: fields.dec()?,
            kind: match fields.word()? {
                "get" => ReqKind::Get,
                "putfull" => ReqKind::PutFull,
                "putpartial" => ReqKind::PutPartial,
                other => return Err(format!("unknown request '{other}'")),
            },
            source: fields.dec()?,
            address: fields.hex()?,
            size: fields.dec()?,
            beat: fields.dec()?,
            mask: fields.hex()?,
        },
        "rsp" => Event::Rsp {
            request: fields.dec()?,
            ack: match fields.word()? {
                "ack" => true,
                "data" => false,
                other => return Err(format!("unknown response '{other}'")),
            },
            source: fields.dec()?,
            beat: fields.dec()?,
        },
        "resp" => Event::Resp { register: fields.dec()?, data: fields.hex()? },
        "spad_rd" => Event::SpadRead { bank: fields.dec()?, row: fields.dec()?, port: fields.port()? },
        "spad_wr" => Event::SpadWrite { bank: fields.dec()?, row: fields.dec()?, port: fields.port()? },
        "acc_rd" => Event::AccRead { bank: fields.dec()?, row: fields.dec()?, port: fields.port()? },
        "acc_wr" => Event::AccWrite {
            bank: fields.dec()?,
            row: fields.dec()?,
            port: fields.port()?,
            accumulate: fields.dec::<u8>()? == 1,
        },
        "mesh_req" => Event::MeshReq { flush: fields.dec()? },
        "mesh_a" => Event::MeshA,
        "mesh_out" => Event::MeshOut { last: fields.dec::<u8>()? == 1 },
        other => return Err(format!("unknown event '{other}'")),
    };
    Ok((cycle, event))
}

struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a column is missing".to_owned())
    }

    fn dec<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("'{word}' is not a decimal number in range"))
    }

    fn hex(&mut self) -> Result<u64, String> {
        let word = self.word()?;
        u64::from_str_radix(word, 16).map_err(|_| format!("'{word}' is not a hexadecimal number"))
    }

    fn unit(&mut self) -> Result<Unit, String> {
        match self.word()? {
            "ld" => Ok(Unit::Ld),
            "ex" => Ok(Unit::Ex),
            "st" => Ok(Unit::St),
            other => Err(format!("unknown queue '{other}'")),
        }
    }

    fn port(&mut self) -> Result<Port, String> {
        match self.word()? {
            "ex" => Ok(Port::Ex),
            "dma" => Ok(Port::Dma),
            other => Err(format!("unknown port '{other}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_trace_are_reproduced() {
        for text in [
            "1,busy,1",
            "67,accept,3,3,80000040,4001000000020",
            "4,alloc,0,ld,0,0,3f80000000100101,10,host",
            "5,issue,0,ld,0",
            "65,complete,2,ld,0",
            "14,req,0,get,16,80000000,16,0,ffff",
            "54,rsp,0,data,16,0",
            "122,rsp,4,ack,0,0",
            "293,resp,1,39",
            "74,spad_rd,0,32,dma",
            "61,spad_wr,0,32,dma",
            "9,acc_rd,1,3,ex",
            "9,acc_wr,1,3,ex,1",
            "9,mesh_req,1",
            "9,mesh_a",
            "9,mesh_out,1",
        ] {
            let (cycle, event) = parse(text).unwrap();
            assert_eq!(line(cycle, &event), text);
        }
    }

    #[test]
    fn a_malformed_line_is_refused() {
        assert!(parse("1,busy").is_err());
        assert!(parse("1,frob,1").unwrap_err().contains("frob"));
        assert!(parse("x,busy,1").is_err());
    }
}
